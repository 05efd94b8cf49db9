"""Servers that are off, rolled back, changed by hand; daemons that are killed, stopped, doubled."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conda import ENVIRONMENT
from tests.integration.daemon.running import INVENTORY, Daemon, inventory, published, recorded
from tests.integration.push.places import environment
from tests.integration.push.stamped import Stamped, version_at, wait_quiet
from tests.lab.lab import Lab, LabHost
from tests.support.processes import wait_until

LOCKED, USAGE = 14, 2


def stands(host: LabHost, version: int) -> bool:
    """False also where the switch came while the files were read, one by one."""
    try:
        return version_at(host) == version
    except (AssertionError, FileNotFoundError):
        return False


@pytest.fixture
def source(fresh_lab: Lab) -> Stamped:
    """A small environment on the controller, of which many files change together."""
    return Stamped.in_lab(fresh_lab, file_bytes=4_000)


@pytest.fixture
def daemon(fresh_lab: Lab, source: Stamped) -> Iterator[Daemon]:
    """One version is everywhere."""
    with Daemon(fresh_lab.controller) as started:
        for host in fresh_lab.targets:
            started.wait_state(host.name, "in-step")
        yield started


@pytest.mark.timeout(180)
def test_servers_in_every_state(fresh_lab: Lab, source: Stamped, daemon: Daemon) -> None:
    two, three = fresh_lab.targets

    # Off for two versions: it gets the newest, and the other had both.
    three.stop_sshd()
    source.change()
    daemon.wait_state("server3", "retrying")
    wait_until(lambda: stands(two, source.version), "server2 has it", timeout_seconds=20)
    wait_until(lambda: daemon.row("server2")["state"] == "in-step", "it is told")
    error = daemon.row("server3")["error"]
    assert error["code"] == "connection-failed", (error, daemon.log())
    newest = source.change()
    wait_until(lambda: stands(two, newest), "server2 has the next", timeout_seconds=20)
    three.start_sshd()
    wait_until(lambda: stands(three, newest), "server3 has it, too", timeout_seconds=60)
    for host in (two, three):
        daemon.wait_state(host.name, "in-step")  # the record comes after the switch
    assert [published(host) for host in (two, three)] == [3, 2]

    # Rolled back, changed by hand, removed: left alone, and told.
    daemon.command.ok("rollback", "myenv", "server2")  # which tells the daemon
    daemon.wait_state("server2", "held")
    assert version_at(two) == newest - 1
    (environment(three) / "share").mkdir()
    (environment(three) / "share/by-hand").write_text("x")
    source.change()
    daemon.wait_state("server2", "in-step")  # another version is another matter
    halted = daemon.wait_state("server3", "halted")
    assert halted["error"]["code"] == "drift"
    assert "--overwrite" in halted["error"]["hint"]
    shutil.rmtree(environment(two))
    source.change()
    assert "was removed there" in daemon.wait_state("server2", "halted")["error"]["message"]
    assert not environment(two).exists()
    assert "halted: it was changed there" in daemon.log()

    assert daemon.command.ok("status").result == daemon.status()

    # A person decides; the daemon finds it so.
    daemon.command.push("server3", "--overwrite")
    daemon.command.push("server2")
    for host in (two, three):
        daemon.wait_state(host.name, "in-step")
        assert version_at(host) == source.version

    # Paused: nothing is pushed, not even after a kill and another start.
    daemon.command.ok("daemon", "pause")
    daemon.kill()
    shown = daemon.command.ok("status").result
    assert shown["daemon"]["running"] is False
    assert [row["state"] for row in shown["environments"][0]["servers"]] == ["in-step"] * 2
    last = source.change()
    daemon.start()
    assert daemon.command.run("daemon").exit_code == LOCKED
    wait_until(
        lambda: [row["state"] for row in daemon.source()["servers"]] == ["lagging"] * 2,
        "they are known to lag",
    )
    assert daemon.source()["activity"] == "paused"
    daemon.command.ok("daemon", "resume", "myenv")
    for host in (two, three):
        daemon.wait_state(host.name, "in-step")
        assert version_at(host) == last
    assert "Traceback" not in daemon.log()

    _paused_in_the_middle_of_a_push(fresh_lab, source, daemon)
    _ended_in_the_middle_of_a_push(fresh_lab, source, daemon)


def _paused_in_the_middle_of_a_push(lab: Lab, source: Stamped, daemon: Daemon) -> None:
    """It ends, nothing is half done, and it is done after the pause."""
    two, before = lab["server2"], source.version
    two.limit("1mbit")
    source.change()
    daemon.wait_state("server2", "pushing")
    wait_until(lambda: two.processes("python.*-I"), "an agent is there", timeout_seconds=20)
    daemon.command.ok("daemon", "pause", "myenv")
    assert daemon.wait_state("server2", "lagging")["error"] is None
    # The change may still be scanned.
    wait_until(lambda: daemon.children() == [], "no worker is left", timeout_seconds=20)
    two.unlimit()
    wait_quiet(two)
    assert version_at(two) == before
    daemon.command.ok("daemon", "resume", "myenv")
    for host in lab.targets:
        wait_until(lambda: stands(host, source.version), "it is done", timeout_seconds=20)  # noqa: B023
        daemon.wait_state(host.name, "in-step")
    assert "killing process" not in daemon.log()


def _ended_in_the_middle_of_a_push(lab: Lab, source: Stamped, daemon: Daemon) -> None:
    """SIGTERM, and a kill: nobody is left behind, nothing is half done, all is done later."""
    two, before = lab["server2"], source.version

    def push_slowly() -> None:
        two.limit("1mbit")
        daemon.start()
        source.change()
        daemon.wait_state("server2", "pushing")
        wait_until(lambda: two.processes("python.*-I"), "an agent is there", timeout_seconds=20)

    assert daemon.stop() == 0
    push_slowly()
    assert daemon.stop() == 0
    assert version_at(two) == before
    push_slowly()
    daemon.kill()
    wait_until(lambda: not daemon.children(), "its children have ended, too")
    assert version_at(two) == before
    assert daemon.row("server2")["state"] == "lagging"
    two.unlimit()
    wait_quiet(two)
    daemon.start()
    wait_until(lambda: stands(two, source.version), "it is done", timeout_seconds=20)
    assert daemon.stop(signal.SIGINT) == 0


@pytest.mark.timeout(180)  # on Python 3.10, the daemon polls every ten seconds
def test_the_inventory_is_edited(fresh_lab: Lab, source: Stamped) -> None:
    controller = fresh_lab.controller
    file = controller.path(INVENTORY)
    text = inventory(controller.prefix, push_to="[server2]")

    def save(content: str) -> None:
        """As an editor does."""
        new = Path(f"{file}~new")
        new.write_text(content)
        new.rename(file)

    with Daemon(controller, text) as daemon:
        daemon.wait_state("server2", "in-step")
        save(text.replace("push_to", "pusht_to"))
        daemon.wait_log("the inventory is refused")
        refused = daemon.status()["daemon"]["inventory_error"]
        assert f"{INVENTORY}:9" in refused["message"]
        source.change()
        wait_until(
            lambda: stands(fresh_lab["server2"], source.version),
            "the old one stays in use",
            timeout_seconds=20,
        )
        save(text.replace("[server2]", "[server2, server3]"))
        daemon.wait_state("server3", "in-step")
        assert daemon.status()["daemon"]["inventory_error"] is None
        file.write_text(text.replace("[server2]", "[server3]"))
        wait_until(lambda: len(daemon.source()["servers"]) == 1, "server2 is out of it")
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_log("the inventory was read", times=3)
        _in_use(daemon, fresh_lab["server3"], source, save)
        (environment(controller)).rename(environment(controller).with_name("elsewhere"))
        daemon.wait_log("there is no environment")
        assert daemon.source()["error"]["code"] == "not-found"
        environment(controller).with_name("elsewhere").rename(environment(controller))
        daemon.wait_log("the source can be pushed again")
        assert published(fresh_lab["server3"]) == 3


def _in_use(daemon: Daemon, host: LabHost, source: Stamped, save: Callable[[str], object]) -> None:
    """Of a job that stands in it, an environment that waits is told, and tried again."""
    text = inventory(host.prefix, push_to="[server3]", more="    in_use: wait")
    save(text)
    daemon.wait_log("the inventory was read", times=4)
    source.change()
    wait_until(
        lambda: stands(host, source.version),
        "there is a version to go back to",
        timeout_seconds=20,
    )
    wait_until(lambda: len(recorded(host)) > 1, "both are recorded")
    before, records = version_at(host), recorded(host)
    job = host.popen(
        ["sleep", "60"],
        cwd=f"{host.prefix}/envs/{ENVIRONMENT}",
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: host.processes("^sleep 60"), "the job runs")
        source.change()
        waiting = daemon.wait_state("server3", "waiting")
        assert waiting["error"]["message"] == "a process uses the environment there"
        assert waiting["next_try_seconds"] > waiting["since_seconds"]
        assert version_at(host) == before
        assert recorded(host) == records, "nothing was staged, so one can still go back"
    finally:
        job.kill()
        job.wait(10)
    daemon.command.ok("daemon", "sync")
    daemon.wait_state("server3", "in-step")
    assert version_at(host) == source.version


@pytest.mark.timeout(60)
def test_two_sources_and_no_source(fresh_lab: Lab, source: Stamped) -> None:
    """Another machine that claims to be the source is found out; one without a name refuses."""
    other = fresh_lab["server2"]
    mine = Daemon(fresh_lab.controller, inventory(fresh_lab.controller.prefix, push_to="[server3]"))
    text = inventory(other.prefix, push_to="[server3]").replace(
        "source: server1", "source: server2"
    )
    Stamped(other).change()
    with mine:
        mine.wait_state("server3", "in-step")
        with Daemon(other, text) as theirs:
            halted = theirs.wait_state("server3", "halted")
            assert halted["error"]["code"] == "not-fast-forward"
            assert "server1" in halted["error"]["message"]
        assert version_at(fresh_lab["server3"]) == 1
    for arguments, word in ((["--as", "server9"], "server9"), ([], "hostname")):
        mine.command.configure(text.replace("  server1: {}\n", ""))
        ran = mine.command.run("daemon", *arguments)
        assert ran.exit_code == USAGE
        assert word in ran.error["message"]
        assert "--as" in ran.error["hint"]
