"""The service in the life of a machine: installed, changed, killed, hung, stopped, rebooted."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.push.stamped import wait_quiet
from tests.integration.systemd.service import INVENTORY, envsync, installer, inventory, place, write
from tests.lab.lab import Lab, LabHost
from tests.support.processes import wait_until
from tests.systemd.machine import USER, Machine
from tests.systemd.unit import WAIT_SECONDS, ServiceUnit

pytestmark = pytest.mark.timeout(120)  # what is booted here is slow where all is
IN_STEP = r"2 of 2 copies in step"

# As where homes are small: the state and envsync's own cache are on another disk.
_LINKED = """
mkdir -p "$1/elsewhere/state" "$1/elsewhere/cache" ~/.cache ~/.local
ln -s "$1/elsewhere/state" ~/.local/state
ln -s "$1/elsewhere/cache" ~/.cache/envsync
"""


# How long it waits before a start is another test's.
_IMPATIENT = """\
[Service]
WatchdogSec=2s
TimeoutAbortSec=200ms
RestartSec=100ms
ExecStartPre=
"""


@pytest.fixture(scope="module")
def installed(machine: Machine) -> ServiceUnit:
    """The system's unit, just installed by root, who owns none of it; its places are links."""
    inventory(machine)
    machine.run(["sh", "-ec", _LINKED, "sh", machine.host.prefix], user=USER)
    told = envsync(machine, "daemon", "install", "--config", INVENTORY, user="root")
    assert (told.exit_code, told.result["done"]) == (0, "started"), told
    assert [entry["error"] for entry in told.result["servers"]] == [None, None]
    return ServiceUnit(machine)


@pytest.fixture
def unit(lab: Lab, installed: ServiceUnit) -> Iterator[ServiceUnit]:
    """The service, running, with nothing left of the test before but the process, if it can be."""
    installed.systemctl("reset-failed")
    if installed.drop_override() or installed.property("ActiveState") != "active":
        installed.systemctl("restart")
    yield installed
    for host in lab.hosts.values():
        host.unlimit()


def wait_for(host: LabHost, name: str, *, seconds: float = WAIT_SECONDS) -> None:
    file = host.path(place(host, name))
    wait_until(file.exists, f"{name} on {host.name}", timeout_seconds=seconds)


def test_a_push_from_within_the_sandbox(lab: Lab, installed: ServiceUnit) -> None:
    installed.wait_status(IN_STEP)
    write(installed.machine, "bin/first")
    for host in lab.targets:
        wait_for(host, "bin/first")
    said = installed.wait_status(IN_STEP)
    shown = installed.systemctl("status")
    assert "active (running)" in shown
    assert f'Status: "{said}' in shown
    process = f"/proc/{installed.property('MainPID')}"
    status = installed.machine.path(f"{process}/status").read_text()
    assert f"Uid:\t{installed.machine.uid}\t" in status
    assert "NoNewPrivs:\t1" in status
    assert installed.machine.host.prefix in installed.property("RequiresMountsFor").split()
    entries = installed.entries("ENVSYNC_SERVER=server2", "ENVSYNC_ENVIRONMENT=myenv")
    [*_, told] = [one for one in entries if " published " in one["MESSAGE"]]
    assert (told["PRIORITY"], len(told["ENVSYNC_REVISION"])) == ("5", 64)
    kept = installed.machine.path(f"{installed.machine.host.prefix}/elsewhere")
    assert list((kept / "state/envsync").glob("on-*/daemon.sqlite"))
    assert any((kept / "cache").iterdir())


def test_installing_again_changes_nothing(unit: ServiceUnit) -> None:
    before = unit.property("MainPID")
    told = envsync(unit.machine, "daemon", "install", "--config", INVENTORY, user="root")
    assert (told.exit_code, told.result["done"]) == (0, "running")
    assert [file["changed"] for file in told.result["files"]] == [False, False]
    assert unit.property("MainPID") == before


def test_an_installer_is_seen_from_within_the_sandbox(lab: Lab, unit: ServiceUnit) -> None:
    with installer(unit.machine):
        write(unit.machine, "bin/while-installing")
        unit.wait_status("conda")
        assert not lab["server2"].path(place(lab["server2"], "bin/while-installing")).exists()
    wait_for(lab["server2"], "bin/while-installing")


def test_a_reload_takes_the_new_inventory(unit: ServiceUnit) -> None:
    main = unit.property("MainPID")
    inventory(unit.machine, push_to="[server2]")
    unit.systemctl("reload")
    unit.wait_status("1 of 1 copies in step")
    inventory(unit.machine)
    unit.systemctl("reload")
    unit.wait_status(IN_STEP)
    assert unit.property("MainPID") == main


def test_service_is_back_after_a_kill(unit: ServiceUnit) -> None:
    unit.systemctl("kill", "--signal=KILL")
    unit.wait_active(restarts=1)
    unit.wait_status(IN_STEP)


def test_service_starts_once_the_inventory_is_mended(unit: ServiceUnit) -> None:
    inventory(unit.machine, servers="serverr2: {hst: x}")
    unit.systemctl("restart", check=False)
    unit.wait_journal("config.yaml:6: servers.serverr2.hst")
    inventory(unit.machine)
    unit.wait_active()


_UNREADABLE = "cd ~/.local/state/envsync/on-*; mv daemon.sqlite kept; mkdir daemon.sqlite"
_READABLE = "cd ~/.local/state/envsync/on-*; rmdir daemon.sqlite; mv kept daemon.sqlite"


def test_service_starts_once_its_state_can_be_read(unit: ServiceUnit) -> None:
    unit.machine.run(["sh", "-ec", _UNREADABLE], user=USER)
    unit.systemctl("restart", check=False)
    unit.wait_journal("cannot be read: unable to open database file")
    unit.machine.run(["sh", "-ec", _READABLE], user=USER)
    unit.wait_active()
    unit.wait_status(IN_STEP)


def test_a_loop_that_hangs_is_ended_by_the_watchdog(unit: ServiceUnit) -> None:
    unit.override(_IMPATIENT)
    unit.systemctl("restart")

    def has_spoken() -> bool:
        """Later than an interval after it was ready: one that is silent does not live so long."""
        wanted = ("ActiveEnterTimestampMonotonic", "WatchdogTimestampMonotonic")
        found = unit.show(*wanted)
        ready, spoke = (int(found[name]) for name in wanted)
        return spoke > ready + 2_500_000

    wait_until(has_spoken, "it lives longer than an interval", timeout_seconds=WAIT_SECONDS)
    before = unit.journal().count("Watchdog timeout")
    unit.systemctl("kill", "--kill-whom=main", "--signal=STOP")
    unit.wait_journal("Watchdog timeout", times=before + 1)
    unit.wait_active()
    assert int(unit.property("NRestarts")) > 0


def test_a_stop_in_the_middle_of_a_push(lab: Lab, unit: ServiceUnit) -> None:
    unit.wait_status(IN_STEP)
    target = lab["server2"]
    target.limit("4mbit")
    write(unit.machine, "bin/large", size_bytes=10 << 20)
    unit.machine.run(["touch", "/dev/shm/job"], user=USER)  # of another process of hers
    unit.wait_status("pushing")
    unit.systemctl("stop")
    # By itself: systemd would call what it has to kill after its 20 s a failure.
    found = unit.show("ActiveState", "Result")
    assert found == {"ActiveState": "inactive", "Result": "success"}
    assert unit.machine.path("/dev/shm/job").exists()
    assert not target.path(place(target, "bin/large")).exists()
    assert unit.machine.run(["pgrep", "-u", USER, "-f", "envsync"], check=False).stdout == ""
    target.unlimit()
    wait_quiet(target)
    unit.systemctl("start")
    wait_for(target, "bin/large")


def test_service_starts_with_every_server_down(lab: Lab, unit: ServiceUnit) -> None:
    for host in lab.targets:
        host.stop_sshd()
    try:
        unit.systemctl("restart")
        unit.wait_active()
        write(unit.machine, "bin/server-down")
        unit.wait_status("retrying")
    finally:
        for host in lab.targets:
            host.start_sshd()


def test_a_boot_waits_for_the_network_and_the_service_comes_back(
    lab: Lab, unit: ServiceUnit
) -> None:
    machine = unit.machine
    machine.write_file(
        "/etc/systemd/system/lab-network.service",
        "[Unit]\nBefore=network-online.target\n[Service]\nType=oneshot\n"
        "ExecStart=/bin/sh -c 'until [ -e /run/network-is-up ]; do sleep 0.1; done'\n"
        "[Install]\nWantedBy=network-online.target\n",
    )
    machine.run(["systemctl", "enable", "lab-network.service"])
    lab.controller.cut()
    machine.reboot(until=("starting",))
    wait_until(lambda: "lab-network" in machine.run(["systemctl", "list-jobs"]).stdout, "a boot")
    assert unit.property("ActiveState") == "inactive"
    write(machine, "bin/before-network")
    machine.write_file("/run/network-is-up", "")
    # Online in name only: no server answers yet.
    unit.wait_active()
    lab.controller.restore()
    wait_for(lab["server2"], "bin/before-network", seconds=60)
