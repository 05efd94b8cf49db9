"""The switch looks on both sides: what changes on the target meanwhile is never lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.push.command import Envsync, finish
from tests.integration.push.places import environment, site_packages, state, trees
from tests.integration.push.planted import Stop, plant
from tests.integration.push.stamped import Stamped, version_at
from tests.integration.push.tree_listing import assert_same, tree
from tests.lab.lab import Lab, LabHost

TARGET = "server2"
DRIFT, PREFLIGHT, SOURCE_REFUSED = 11, 8, 9


def edit(host: LabHost) -> None:
    """In place, as an installer or a person does in the moment of a push."""
    with (environment(host) / "conda-meta/history").open("a") as file:
        file.write("# changed there\n")


def has_edit(top: Path) -> bool:
    return "# changed there" in (top / "conda-meta/history").read_text()


@pytest.mark.parametrize("moment", ["build.stage", "build.publish", "sync", "switch", "switched"])
def test_the_target_changes_during_the_push(source: Stamped, fresh_lab: Lab, moment: str) -> None:
    """Before the switch, or in the very moment of it: the change stands, the push is refused."""
    target, envsync = fresh_lab[TARGET], plant(fresh_lab.controller)
    envsync.push(TARGET)
    source.change()
    # Right after the switch, whoever had the file open writes into the tree switched out.
    with (environment(target) / "conda-meta/history").open("a") as file:
        stop = Stop(target, moment)
        process = envsync.start("push", "myenv", TARGET)
        stop.wait()
        file.write("# changed there\n")
        file.flush()
        stop.go_on()
        ran = finish(process)
    assert ran.exit_code == DRIFT, ran.document
    assert version_at(target) == source.version - 1
    assert has_edit(environment(target))
    assert not (state(target) / "intent.json").exists()
    envsync.push(TARGET, expect=DRIFT)
    envsync.push(TARGET, "--overwrite")
    assert version_at(target) == source.version
    assert any(has_edit(place) for place in trees(target))


def test_an_environment_appears_during_the_first_push(source: Stamped, fresh_lab: Lab) -> None:
    target, envsync = fresh_lab[TARGET], plant(fresh_lab.controller)
    stop = Stop(target, "build.publish")
    process = envsync.start("push", "myenv", TARGET)
    stop.wait()
    environment(target).mkdir()
    (environment(target) / "mine").write_text("made meanwhile\n")
    stop.go_on()
    assert finish(process).exit_code == DRIFT
    assert (environment(target) / "mine").read_text() == "made meanwhile\n"


def test_the_place_itself_is_refused(source: Stamped, fresh_lab: Lab) -> None:
    """A server that is this machine under another name."""
    envsync = Envsync(fresh_lab.controller)
    host, prefix = fresh_lab.controller.address, fresh_lab.controller.prefix
    envsync.configure(f"prefix: {prefix}\nservers:\n  other: {{host: {host}}}\n")
    ran = envsync.push("other", expect=PREFLIGHT)
    assert "the same directory" in ran.said
    assert version_at(fresh_lab.controller) == source.version


def test_signs_of_an_installer_stop_the_push(source: Stamped, fresh_lab: Lab) -> None:
    controller, target = fresh_lab.controller, fresh_lab[TARGET]
    envsync = Envsync(controller)
    packages = environment(controller) / "lib/python3.11/site-packages"
    (packages / "~umpy").mkdir(parents=True)
    (packages / "~umpy/__init__.py").write_text("")
    refused = envsync.push(TARGET, expect=SOURCE_REFUSED)
    assert "~umpy" in refused.said
    (packages / "~umpy/__init__.py").unlink()
    (packages / "~umpy").rmdir()
    envsync.push(TARGET)
    source.change()
    (site_packages(target) / "~umpy").mkdir()
    refused = envsync.push(TARGET, expect=PREFLIGHT)
    assert "~umpy" in refused.said
    assert version_at(target) == source.version - 1


def test_a_symlinked_environment_is_resolved_once(source: Stamped, fresh_lab: Lab) -> None:
    """The link stays; what it leads to is switched, beside itself."""
    target, envsync = fresh_lab[TARGET], Envsync(fresh_lab.controller)
    elsewhere = target.path(f"{target.prefix}/../elsewhere")
    elsewhere.mkdir()
    (elsewhere / "real").mkdir()
    link = environment(target)
    link.symlink_to(f"{Path(target.prefix).parent}/elsewhere/real")
    envsync.push(TARGET, "--overwrite")
    source.change()
    envsync.push(TARGET)
    assert link.is_symlink()
    stamps = target.path(f"{Path(target.prefix).parent}/elsewhere/real/stamps/000")
    assert stamps.read_bytes()[:16].decode().endswith(str(source.version))
    assert target.path(f"{Path(target.prefix).parent}/elsewhere/.envsync").is_dir()
    assert not state(target).exists()


def test_a_target_in_ruins_is_mended(source: Stamped, fresh_lab: Lab) -> None:
    """No conda environment any more: that is drift, which a person may overwrite."""
    target, envsync = fresh_lab[TARGET], Envsync(fresh_lab.controller)
    envsync.push(TARGET)
    (environment(target) / "conda-meta/history").unlink()
    refused = envsync.push(TARGET, expect=DRIFT)
    assert "conda-meta/history" in refused.said
    envsync.push(TARGET, "--overwrite")
    assert (environment(target) / "conda-meta/history").is_file()


def test_as_many_versions_stay_as_asked_for(source: Stamped, fresh_lab: Lab) -> None:
    controller, target = fresh_lab.controller, fresh_lab[TARGET]
    envsync = Envsync(controller)
    envsync.configure(
        f"prefix: {controller.prefix}\nservers: {{server1: {{}}, server2: {{}}}}\n"
        "environments: {myenv: {keep: 2}}\n"
    )
    for _ in range(4):
        envsync.push(TARGET)
        source.change()
    assert len(trees(target)) == 2
    assert envsync.run("rollback", "myenv", TARGET, "--to", "1").exit_code == 21
    envsync.ok("rollback", "myenv", TARGET, "--to", "2")
    assert version_at(target) == 2


def test_push_verify_and_rollback_work_on_a_real_filesystem(
    source: Stamped, fresh_lab: Lab, tmp_path: Path
) -> None:
    """Not in memory: stamps of another grain, a disk to sync."""
    target, envsync = fresh_lab[TARGET], Envsync(fresh_lab.controller)
    target.use_directory(tmp_path)
    try:
        for _ in range(3):
            source.change()
            assert envsync.push(TARGET).server["outcome"] == "pushed"
            assert_same(tree(source.top), tree(environment(target)))
        assert envsync.push(TARGET).server["outcome"] == "in-step"
        envsync.ok("verify", "myenv", TARGET)
        envsync.ok("rollback", "myenv", TARGET)
        assert version_at(target) == source.version - 1
    finally:
        target.wipe()


def test_staging_tree_is_closed_to_other_users(source: Stamped, fresh_lab: Lab) -> None:
    target, envsync = fresh_lab[TARGET], plant(fresh_lab.controller)
    envsync.push(TARGET)
    source.change()
    (source.top / "stamps").chmod(0o777)
    (source.top / "stamps/000").chmod(0o666)
    stop = Stop(target, "build.publish")
    process = envsync.start("push", "myenv", TARGET)
    stop.wait()
    [staging] = (state(target) / "trees").iterdir()
    assert (staging / "stamps/000").exists()
    assert state(target).stat().st_mode & 0o777 == 0o700
    open_to_others = [
        path for path in state(target).rglob("*")
        if not path.is_symlink() and path.stat().st_mode & 0o002
    ]  # fmt: skip
    stop.go_on()
    assert finish(process).exit_code == 0
    assert open_to_others == []
    assert environment(target).stat().st_mode & 0o777 == source.top.stat().st_mode & 0o775
    assert (environment(target) / "stamps").stat().st_mode & 0o777 == 0o775
    assert (environment(target) / "stamps/000").stat().st_mode & 0o777 == 0o664
