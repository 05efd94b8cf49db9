"""Nothing is lost: what a server has that this source did not put there stops the push."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.push.command import Envsync
from tests.integration.push.places import environment, rewrite, site_packages, trees
from tests.integration.push.stamped import Stamped
from tests.integration.push.tree_listing import assert_same, contents, tree
from tests.lab.lab import Lab, LabHost

DRIFT, NOT_FAST_FORWARD, HELD, CHECK_FAILED = 11, 12, 13, 19


@pytest.fixture
def small_lab(fresh_lab: Lab) -> Lab:
    """Like `conda_lab`, for what is the same whatever an environment holds."""
    top = Stamped.in_lab(fresh_lab).top
    (top / "lib/python3.11/site-packages/lab_variant").mkdir(parents=True)
    (top / "lib/python3.11/site-packages/lab_variant/same.py").write_text("\n")
    (top / "share/lab").mkdir(parents=True)
    return fresh_lab


def _edit(host: LabHost) -> None:
    with (site_packages(host) / "lab_variant/same.py").open("a") as file:
        file.write("print('edited by hand')\n")


def _delete(host: LabHost) -> None:
    (site_packages(host) / "lab_cli/main.py").unlink()


def _append(host: LabHost) -> None:
    """As conda does, in place."""
    with (environment(host) / "conda-meta/history").open("a") as file:
        file.write("==> 2026-01-01 00:00:00 <==\n# cmd: conda install something\n")


def _flip(host: LabHost) -> None:
    """One byte, in place, and its mtime put back."""
    path = environment(host) / "share/lab/data.bin"
    status = path.stat()
    with path.open("r+b") as file:
        file.seek(1_000_000)
        byte = file.read(1)[0]
        file.seek(1_000_000)
        file.write(bytes([byte ^ 1]))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def _install(host: LabHost) -> None:
    host.install_wheel("tiny-wheel", "9.9")


def test_change_on_the_target_stops_the_push(conda_lab: Lab, envsync: Envsync) -> None:
    """Change after change: each is told, with its package, and nothing is touched."""
    controller, target = conda_lab.controller, conda_lab["server2"]
    envsync.push("server2")
    rewrite(environment(controller) / "share/lab/version", b"2")
    for change, counts, named in (
        (_flip, "0 files added, 0 removed, 1 changed", "lab-data"),
        (_edit, "0 files added, 0 removed, 2 changed", "lab-variant"),
        (_append, "0 files added, 0 removed, 3 changed", "conda-meta/history"),
        (_delete, "0 files added, 1 removed, 3 changed", "lab-cli"),
        (_install, "added, 1 removed, 3 changed", "tiny_wheel"),
    ):
        change(target)
        before = tree(environment(target))
        refused = envsync.push("server2", expect=DRIFT)
        assert refused.error["server"] == "server2"
        assert f"{controller.user}@server1 published it on" in refused.error["message"]
        assert counts in refused.said
        assert named in refused.said
        assert tree(environment(target)) == before
    verified = envsync.run("verify", "myenv", "server2")
    assert verified.exit_code == 18
    found = verified.server["verified"]
    assert "share/lab/data.bin" in found["damaged"]
    assert len(found["damaged"]) == 3
    assert [Path(path).name for path in found["missing"]] == ["main.py"]
    assert any("tiny_wheel" in path for path in found["unexpected"])
    planned = envsync.push("server2", "--dry-run", expect=DRIFT).server
    assert planned["outcome"] == "planned"
    assert planned["error"]["code"] == "drift"
    assert tree(environment(target)) == before


def test_overwritten_version_is_kept_for_good(small_lab: Lab) -> None:
    envsync = Envsync(small_lab.controller)
    controller, target = small_lab.controller, small_lab["server2"]
    envsync.push("server2")
    _edit(target)
    theirs = contents(tree(environment(target)))
    rewrite(environment(controller) / "share/lab/version", b"2")
    pushed = envsync.push("server2", "--overwrite").server
    assert "kept as a generation" in pushed["overwritten"]
    assert_same(tree(environment(controller)), tree(environment(target)))
    for version in (b"3", b"4"):
        rewrite(environment(controller) / "share/lab/version", version)
        envsync.push("server2")
        kept = [contents(tree(place)) for place in trees(target)]
        assert theirs in kept
        assert len(kept) == 2  # theirs, and the one before


def test_an_unpublished_environment_counts_as_drift(small_lab: Lab) -> None:
    envsync = Envsync(small_lab.controller)
    target = small_lab["server2"]
    shutil.copytree(
        environment(small_lab["server1"]) / "conda-meta", environment(target) / "conda-meta"
    )
    (environment(target) / "mine.txt").write_text("made here\n")
    refused = envsync.push("server2", expect=DRIFT)
    assert "never published" in refused.said
    for command in ("remove", "rollback"):
        refused = envsync.run(command, "myenv", "server2")
        assert "--published" not in refused.error["hint"]
    compared = envsync.run("diff", "myenv", "server2", "--published")
    assert (compared.exit_code, compared.error["code"]) == (21, "not-found")
    assert "`envsync diff myenv server2`" in compared.error["hint"]
    envsync.push("server2", "--overwrite")
    assert any((place / "mine.txt").exists() for place in trees(target))


def test_equal_content_is_adopted(small_lab: Lab) -> None:
    envsync = Envsync(small_lab.controller)
    controller, target = small_lab.controller, small_lab["server2"]
    there = environment(target)
    archive = "/run/lab/copy.tar"
    top = f"{controller.prefix}/envs"
    controller.run(["tar", "-C", top, "-cf", archive, "myenv"])
    target.path(archive).write_bytes(controller.path(archive).read_bytes())
    target.run(["tar", "-C", top, "-xf", archive])
    before = tree(there)
    planned = envsync.push("server2", "--dry-run").server
    assert (planned["outcome"], planned["record"]) == ("in-step", None)
    adopted = envsync.push("server2").server
    assert adopted["outcome"] == "adopted"
    assert adopted["record"]["method"] == "adopt"
    assert tree(there) == before
    rewrite(environment(controller) / "share/lab/version", b"2")
    assert envsync.push("server2").server["outcome"] == "pushed"


def test_a_version_of_another_source_is_not_overwritten(small_lab: Lab) -> None:
    """server1 -> server2, changed on server2 -> server3; then server1 must not undo that."""
    envsync = Envsync(small_lab.controller)
    controller, second, third = small_lab.hosts.values()
    envsync.push("server2", "server3")
    rewrite(environment(second) / "share/lab/version", b"of server2")
    Envsync(second).push("server3")
    rewrite(environment(controller) / "share/lab/version", b"of server1")
    before = contents(tree(environment(third)))
    refused = envsync.push("server3", expect=NOT_FAST_FORWARD)
    assert f"{second.user}@server2" in refused.said
    assert contents(tree(environment(third))) == before
    pushed = envsync.push("server3", "--overwrite").server
    assert "kept as a generation" in pushed["overwritten"]
    assert_same(tree(environment(controller)), tree(environment(third)))
    for version in (b"3", b"4"):
        rewrite(environment(controller) / "share/lab/version", version)
        envsync.push("server3")
        assert before in [contents(tree(place)) for place in trees(third)]
    stays = envsync.ok("gc", "server3").server["freed"]["environments"][0]["stays"]
    assert "whose source never had it (--drifted removes it)" in stays[0]
    envsync.ok("rollback", "myenv", "server3", "--to", "2")
    assert contents(tree(environment(third))) == before


def test_rollback_gives_the_old_bytes_and_holds(small_lab: Lab) -> None:
    envsync = Envsync(small_lab.controller)
    controller, target = small_lab.controller, small_lab["server2"]
    envsync.push("server2")
    old = tree(environment(target))
    rewrite(environment(controller) / "share/lab/version", b"2")
    bad = envsync.push("server2").server["revision"]
    back = envsync.ok("rollback", "myenv", "server2").result["record"]
    assert back["number"] == 1
    assert_same(old, tree(environment(target)))
    assert envsync.push("server2", expect=HELD).error["server"] == "server2"
    assert envsync.push("server2", "--retry-held").server["revision"] == bad
    assert envsync.push("server2").server["outcome"] == "in-step"

    envsync.ok("rollback", "myenv", "server2")
    rewrite(environment(controller) / "share/lab/version", b"3")
    assert envsync.push("server2").server["outcome"] == "pushed"
    events = envsync.ok("history", "myenv", "server2").server["events"]
    assert [event["event"] for event in events] == [
        "publish", "publish", "rollback", "publish", "rollback", "publish",
    ]  # fmt: skip


def test_rollback_refuses_where_there_is_no_earlier_version(small_lab: Lab) -> None:
    envsync = Envsync(small_lab.controller)
    assert envsync.run("rollback", "myenv", "server2").exit_code == 21
    envsync.push("server2")
    assert envsync.run("rollback", "myenv", "server2").exit_code == 21


def test_a_rollback_does_not_lose_a_change(small_lab: Lab) -> None:
    envsync = Envsync(small_lab.controller)
    controller, target = small_lab.controller, small_lab["server2"]
    envsync.push("server2")
    rewrite(environment(controller) / "share/lab/version", b"2")
    envsync.push("server2")
    _edit(target)
    mine = contents(tree(environment(target)))
    assert envsync.run("rollback", "myenv", "server2").exit_code == DRIFT
    assert contents(tree(environment(target))) == mine
    envsync.ok("rollback", "myenv", "server2", "--overwrite")
    assert mine in [contents(tree(place)) for place in trees(target)]


@pytest.mark.parametrize("check", ["python -c 'import nothing_there'", "sleep 60"])
def test_a_failing_check_takes_the_version_back(
    conda_lab: Lab, envsync: Envsync, check: str
) -> None:
    controller, target = conda_lab.controller, conda_lab["server2"]
    good = "import lab_variant; assert lab_variant.__version__ == '1.0'"

    def configure(check: str) -> None:
        envsync.configure(
            f"prefix: {controller.prefix}\n"
            "servers: {server1: {}, server2: {}}\n"
            "environments:\n  myenv:\n    check_timeout: 1s\n"
            f"    check: |-\n      {check}\n"
        )

    configure(f'python -c "{good}"')
    envsync.push("server2")
    before = tree(environment(target))
    rewrite(environment(controller) / "share/lab/version", b"2")
    configure(check)
    failed = envsync.push("server2", expect=CHECK_FAILED)
    assert "the previous version is live again" in failed.said
    assert "insist: `envsync push myenv server2 --retry-held`" in failed.said
    assert_same(before, tree(environment(target)))
    assert target.processes("sleep 60") == []
    assert envsync.push("server2", expect=HELD).exit_code == HELD
    configure("true")
    assert envsync.push("server2", "--retry-held").server["outcome"] == "pushed"
    assert_same(tree(environment(controller)), tree(environment(target)))


def test_a_first_version_whose_check_fails_leaves_nothing(small_lab: Lab) -> None:
    envsync = Envsync(small_lab.controller)
    controller, target = small_lab.controller, small_lab["server2"]
    text = f"prefix: {controller.prefix}\nservers: {{server1: {{}}, server2: {{}}}}\n"
    envsync.configure(f"{text}environments:\n  myenv:\n    check: 'false'\n")
    for arguments, code in (([], CHECK_FAILED), ([], HELD), (["--retry-held"], CHECK_FAILED)):
        envsync.push("server2", *arguments, expect=code)
        assert not environment(target).exists()
    envsync.configure(text)
    pushed = envsync.push("server2", "--retry-held").server
    assert pushed["plan"]["fetch_bytes"] < 10_000  # it was there already
    assert_same(tree(environment(controller)), tree(environment(target)))


def _ruin(top: Path) -> None:
    for path in (*top.glob("lib/python3.*/*"), *top.glob("share/*")):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)


def test_a_source_in_ruins_is_not_replicated(conda_lab: Lab, envsync: Envsync) -> None:
    controller, target = conda_lab.controller, conda_lab["server2"]
    for number in range(250):
        (environment(controller) / f"share/lab/many-{number}").write_text(str(number))
    envsync.push("server2")
    before = tree(environment(target))
    _ruin(environment(controller))
    assert envsync.push("server2", expect=10).error["code"] == "source-shrunk"
    assert tree(environment(target)) == before
    envsync.push("server2", "--allow-shrink")
    (environment(controller) / "conda-meta/history").unlink()
    for options in ((), ("--allow-shrink",)):
        refused = envsync.push("server2", *options, expect=9).error
        assert refused["code"] == "source-refused"
        assert refused["hint"] == (
            "`conda create -n myenv` makes it one; `envsync remove` takes it from servers; "
            "--allow-shrink does not push it"
        )
    shutil.rmtree(environment(controller))
    assert envsync.push("server2", expect=21).error["code"] == "not-found"
    assert environment(target).exists()


def _empty(top: Path) -> None:
    """As a power cut may leave what was just written; nothing is gone, and most bytes are there."""
    for number in range(30):
        (top / f"share/lab/many-{number}").write_text("")


def _forget_packages(top: Path) -> None:
    for path in top.glob("conda-meta/*.json"):
        path.unlink()


@pytest.mark.parametrize(
    ("ruin", "seen"),
    [
        (_empty, "the source looks ruined: 30 files are empty that have content on the target"),
        (_forget_packages, "the source looks ruined: it has no package record in conda-meta"),
    ],
)
def test_a_source_that_was_emptied_in_part_is_not_replicated(
    small_lab: Lab, ruin: Callable[[Path], None], seen: str
) -> None:
    """A dry run says so, and no earlier version is used up before the refusal."""
    controller, target = small_lab.controller, small_lab["server2"]
    envsync = Envsync(controller)
    top = environment(controller)
    (top / "conda-meta/lab-1.0-0.json").write_text("{}")
    for number in range(50):
        (top / f"share/lab/many-{number}").write_text(str(number))
    envsync.push("server2")
    (top / "share/lab/new").write_text("new")
    envsync.push("server2")
    before = [tree(path) for path in (environment(target), *trees(target))]
    ruin(top)
    insist = "envsync push myenv server2 --allow-shrink"
    for options in (["--dry-run"], []):
        ran = envsync.push("server2", *options, expect=10)
        assert ran.error["code"] == "source-shrunk"
        assert ran.error["message"].startswith(seen)
        assert ran.error["hint"] == f"if that is what you want: {insist}"
    assert [tree(path) for path in (environment(target), *trees(target))] == before
    assert envsync.push("server2", "--dry-run", "--allow-shrink").server["plan"]
    envsync.push("server2", "--allow-shrink")
    assert_same(tree(top), tree(environment(target)))


def test_base_is_refused(conda_lab: Lab, envsync: Envsync) -> None:
    refused = envsync.run("push", "base", "server2")
    assert refused.exit_code in (2, 8)
    assert "conda itself" in refused.said
