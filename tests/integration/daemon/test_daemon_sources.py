"""Sources that come, go, are replaced or ruined; and others who push beside the daemon."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.daemon.running import WAIT_SECONDS, Daemon, inventory, published
from tests.integration.push.command import finish
from tests.integration.push.places import environment
from tests.integration.push.planted import SCANNED, Stop, plant
from tests.integration.push.stamped import MOVED_FILES, Stamped, is_quiet, version_at, write_version
from tests.integration.push.tree_listing import tree
from tests.lab.lab import Lab, LabHost
from tests.support.processes import wait_until

pytestmark = pytest.mark.timeout(120)
TARGET, LOCKED = "server2", 14


def started(lab: Lab) -> Daemon:
    """With server2 alone to push to, and no rescan that could help."""
    return Daemon(lab.controller, inventory(lab.controller.prefix, push_to=f"[{TARGET}]"))


def wait_for(host: LabHost, version: int, daemon: Daemon) -> None:
    """Until the daemon says that it is in step, and that version stands there."""

    def stands() -> bool:
        return daemon.row(TARGET)["state"] == "in-step" and version_at(host) == version

    wait_until(stands, f"version {version} is there", timeout_seconds=WAIT_SECONDS)


def test_an_environment_that_comes_goes_and_is_replaced(fresh_lab: Lab) -> None:
    source, target = Stamped.in_lab(fresh_lab, file_bytes=4_000), fresh_lab[TARGET]
    aside = source.top.with_name("aside")
    source.top.rename(aside)
    with started(fresh_lab) as daemon:
        daemon.wait_log("there is no environment")
        aside.rename(source.top)
        wait_for(target, 1, daemon)

        shutil.copytree(source.top, aside, symlinks=True)
        shutil.rmtree(source.top)
        daemon.wait_log("there is no environment", times=2)
        assert version_at(target) == 1, "what is gone here stays there"
        write_version(aside, 2, file_bytes=4_000)
        aside.rename(source.top)  # made anew, as far as anybody can tell
        wait_for(target, 2, daemon)

        shutil.copytree(source.top, aside, symlinks=True)
        write_version(aside, 3, file_bytes=4_000)
        source.top.rename(source.top.with_name("before"))
        aside.rename(source.top)
        wait_for(target, 3, daemon)
        assert published(target) == 3


def test_environments_come_and_go_with_the_inventory(fresh_lab: Lab) -> None:
    """One that is new there is pushed; one that is there no more is left as it is."""
    source, target = Stamped.in_lab(fresh_lab, file_bytes=4_000), fresh_lab[TARGET]
    other = source.top.with_name("other")
    shutil.copytree(source.top, other, symlinks=True)
    text = inventory(fresh_lab.controller.prefix, push_to=f"[{TARGET}]")
    entry = f"  other: {{source: server1, push_to: [{TARGET}], watch: true}}\n"
    with Daemon(fresh_lab.controller, text) as daemon:
        wait_for(target, 1, daemon)
        daemon.command.configure(text.replace("watch: {settle", f"{entry}watch: {{settle"))
        wait_until(
            lambda: (
                _environments(daemon) == ["myenv", "other"]
                and daemon.row(TARGET, "other")["state"] == "in-step"
            ),
            "the new one is there",
            timeout_seconds=WAIT_SECONDS,
        )
        daemon.command.configure(text)
        wait_until(lambda: _environments(daemon) == ["myenv"], "it is out of it")
        write_version(other, 2, file_bytes=4_000)
        wait_for(target, source.change(), daemon)
        assert (published(target), published(target, "other")) == (2, 1)


def _environments(daemon: Daemon) -> list[str]:
    return [str(source["environment"]) for source in daemon.status()["environments"]]


def test_change_during_the_first_scan_is_pushed(fresh_lab: Lab) -> None:
    """It is watched before it is looked at: what the scan has passed already is told of.

    By a daemon that knows its servers in step: a push, for which it had reason, would look itself.
    """
    source, daemon = Stamped.in_lab(fresh_lab, file_bytes=4_000), started(fresh_lab)
    with daemon:
        daemon.wait_state(TARGET, "in-step")
    daemon.command.environment |= plant(fresh_lab.controller).environment
    scan = Stop(fresh_lab.controller, SCANNED)
    with daemon:
        scan.wait()
        newest = source.change()
        scan.go_on()
        wait_for(fresh_lab[TARGET], newest, daemon)


def test_a_source_in_ruins_is_not_pushed(fresh_lab: Lab) -> None:
    source, target = Stamped.in_lab(fresh_lab, file_bytes=4_000), fresh_lab[TARGET]
    with started(fresh_lab) as daemon:
        daemon.wait_state(TARGET, "in-step")
        shutil.rmtree(source.top / "stamps")
        halted = daemon.wait_state(TARGET, "halted")
        assert halted["error"]["code"] == "source-shrunk"
        assert "looks ruined" in halted["error"]["message"]
        assert version_at(target) == 1
        (source.top / "stamps").mkdir()
        write_version(source.top, 1, file_bytes=4_000)
        daemon.wait_state(TARGET, "in-step")
        assert published(target) == 1


def _empty(top: Path) -> None:
    for number in range(MOVED_FILES):
        (top / f"moving-1/{number}").write_text("")
    (top / "moving-1").rename(top / "moved")
    (top / "moved").rename(top / "moving-1")


def _forget_packages(top: Path) -> None:
    (top / "conda-meta/lab-1.0-0.json").unlink()


@pytest.mark.parametrize(
    ("ruin", "seen"),
    [(_empty, f"{MOVED_FILES} files are empty"), (_forget_packages, "no package record")],
)
def test_a_source_that_was_emptied_in_part_is_not_pushed(
    fresh_lab: Lab, ruin: Callable[[Path], None], seen: str
) -> None:
    source, target = Stamped.in_lab(fresh_lab, file_bytes=4_000), fresh_lab[TARGET]
    (source.top / "conda-meta/lab-1.0-0.json").write_text("{}")
    (source.top / "conda-meta/history").write_text("==> 2026 <==\n+lab/noarch::lab-1.0-0\n")
    with started(fresh_lab) as daemon:
        daemon.wait_state(TARGET, "in-step")
        before = tree(environment(target))
        ruin(source.top)
        halted = daemon.wait_state(TARGET, "halted")
        assert halted["error"]["code"] == "source-shrunk"
        assert seen in halted["error"]["message"]
        assert tree(environment(target)) == before


def test_credentials_that_are_pushed_are_named_once(fresh_lab: Lab) -> None:
    source = Stamped.in_lab(fresh_lab, file_bytes=4_000)
    (source.top / "pip.conf").write_text("[global]\nindex-url = https://bob:s3cretpw@lab/simple\n")
    with started(fresh_lab) as daemon:
        warning = "credentials are in pip.conf: "
        daemon.wait_log(f"myenv -> {TARGET}: warning: {warning}")
        wait_for(fresh_lab[TARGET], source.change(), daemon)
        assert daemon.log().count("credentials") == 1
        assert "s3cretpw" not in daemon.log()
        [told] = daemon.command.ok("status").result["environments"][0]["servers"][0]["warnings"]
        assert told.startswith(warning)


def test_server_that_cannot_take_the_environment_is_halted(fresh_lab: Lab) -> None:
    source, target = Stamped.in_lab(fresh_lab, file_bytes=4_000), fresh_lab[TARGET]
    environment(target).write_text("of somebody else's")
    with started(fresh_lab) as daemon:
        halted = daemon.wait_state(TARGET, "halted")
        assert halted["error"]["code"] == "preflight-refused"
        assert "is not a directory" in str(halted["error"])
        assert environment(target).read_text() == "of somebody else's"
        environment(target).unlink()
        daemon.command.ok("daemon", "sync")
        wait_for(target, source.version, daemon)


def test_a_push_by_hand_while_the_daemon_pushes(fresh_lab: Lab) -> None:
    """The same lock: the one who comes second is told who has it, and does no harm."""
    source, target = Stamped.in_lab(fresh_lab), fresh_lab[TARGET]
    with started(fresh_lab) as daemon:
        daemon.wait_state(TARGET, "in-step")
        target.limit("2mbit")
        newest = source.change()
        daemon.wait_state(TARGET, "pushing")
        wait_until(lambda: not is_quiet(target), "its push has the lock", timeout_seconds=20)
        assert daemon.command.push(TARGET, expect=LOCKED).error["code"] == "locked"
        target.unlimit()
        wait_for(target, newest, daemon)
        assert published(target) == 2


def test_the_daemon_while_somebody_pushes_by_hand(fresh_lab: Lab) -> None:
    source, target = Stamped.in_lab(fresh_lab), fresh_lab[TARGET]
    with started(fresh_lab) as daemon:
        daemon.wait_state(TARGET, "in-step")
        daemon.command.ok("daemon", "pause")
        source.change()
        target.limit("2mbit")
        by_hand = daemon.command.start("push", "myenv", TARGET)
        wait_until(lambda: not is_quiet(target), "its push has the lock", timeout_seconds=20)
        daemon.command.ok("daemon", "resume")
        retrying = daemon.wait_state(TARGET, "retrying")
        assert retrying["error"]["code"] == "locked"
        target.unlimit()
        assert finish(by_hand).exit_code == 0
        daemon.command.ok("daemon", "sync")
        wait_for(target, source.version, daemon)
        assert published(target) == 2
