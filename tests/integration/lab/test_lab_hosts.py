"""The lab's hosts are really apart, and really reach each other."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from tests.lab.host import USER, CommandFailed
from tests.lab.lab import Lab
from tests.support.processes import state_of, wait_until


def test_hosts_have_different_files_at_the_same_prefix(fresh_lab: Lab) -> None:
    for host in fresh_lab.hosts.values():
        host.run(["sh", "-c", 'echo "$1" > "$2/whose"', "sh", host.name, host.prefix])
    [prefix] = {host.prefix for host in fresh_lab.hosts.values()}
    for host in fresh_lab.hosts.values():
        assert host.run(["cat", f"{prefix}/whose"]).stdout == f"{host.name}\n"
        assert host.path(f"{prefix}/whose").read_text() == f"{host.name}\n"
    assert not os.path.lexists(f"{prefix}/whose"), "the machine itself has nothing there"


def test_hosts_have_names_addresses_and_processes_of_their_own(fresh_lab: Lab) -> None:
    first, second = fresh_lab["server1"], fresh_lab["server2"]
    assert first.run(["hostname"]).stdout == "server1\n"
    assert second.run(["hostname", "-I"]).stdout.split() == [second.address]
    with first.popen(["sleep", "60"], stdout=None, stderr=None) as sleeping:
        wait_until(lambda: first.processes("^sleep 60"), "the process is seen")
        [pid] = first.processes("^sleep 60")
        assert second.processes("^sleep 60") == []
        assert str(first.pid_on_host(pid)) in first.run(["ps", "-eo", "pid"]).stdout.split()
        with pytest.raises(AssertionError, match="not of this host"):
            second.kill(pid)
        first.kill(pid)
        assert sleeping.wait(timeout=20) == -signal.SIGKILL


def test_accounts_that_the_machine_gets_meanwhile_are_not_the_hosts(fresh_lab: Lab) -> None:
    """useradd replaces /etc/passwd: the kernel drops a mount on a file that is replaced outside."""
    mounts = fresh_lab.controller.run(["findmnt", "-rno", "TARGET"]).stdout.splitlines()
    assert [mount for mount in mounts if mount.startswith("/etc")] == ["/etc"]


def test_a_pause_of_everything_leaves_no_command_unheard(fresh_lab: Lab) -> None:
    """Whoever continues nsenter before its command has it suspend itself once more."""
    host = fresh_lab.controller
    with host.popen(["cat"], stdin=subprocess.PIPE) as command:
        wait_until(lambda: host.processes("^cat"), "it runs")
        inner = command.inner_pid()
        assert inner is not None
        for pid in (command.pid, inner):
            os.kill(pid, signal.SIGSTOP)
        wait_until(lambda: state_of(inner) == "T", "it is suspended")
        os.kill(command.pid, signal.SIGCONT)
        wait_until(lambda: state_of(command.pid) == "T", "nsenter has suspended itself")
        os.kill(inner, signal.SIGCONT)
        assert command.communicate(b"heard", timeout=20) == (b"heard", b"")
    assert command.returncode == 0


def test_ssh_with_strict_host_keys(fresh_lab: Lab) -> None:
    strict = ["ssh", "-o", "StrictHostKeyChecking=yes"]
    controller = fresh_lab.controller
    for host in fresh_lab.targets:
        done = controller.run([*strict, host.name, "hostname; id -un; echo $HOME"])
        assert done.stdout.split() == [host.name, host.user, f"/run/home/{host.user}"]
    assert controller.run([*strict, f"{USER}@server2", "id -un"]).stdout == f"{USER}\n"
    assert controller.run([*strict, "-J", "server3", "server2", "hostname"]).stdout == "server2\n"


def test_unknown_host_key_is_refused(fresh_lab: Lab) -> None:
    controller = fresh_lab.controller
    known_hosts = controller.path(f"{controller.home()}/.ssh/known_hosts")
    lines = known_hosts.read_text().splitlines(keepends=True)
    known_hosts.write_text("".join(line for line in lines if "server2" not in line))
    with pytest.raises(CommandFailed, match="Host key verification failed"):
        controller.run(["ssh", "-o", "StrictHostKeyChecking=yes", "server2", "true"])


def test_rsync_between_hosts(fresh_lab: Lab) -> None:
    controller, target = fresh_lab["server1"], fresh_lab["server2"]
    controller.path(f"{controller.prefix}/file").write_bytes(os.urandom(300_000))
    controller.run(["rsync", "-a", f"{controller.prefix}/", f"server2:{target.prefix}/"])
    sent = controller.path(f"{controller.prefix}/file").read_bytes()
    assert target.path(f"{target.prefix}/file").read_bytes() == sent


def test_storage_can_be_small_and_read_only(fresh_lab: Lab) -> None:
    host = fresh_lab["server2"]
    host.remount("size=1m")
    fill = ["dd", "if=/dev/zero", f"of={host.prefix}/filler", "bs=64k", "count=32"]
    with pytest.raises(CommandFailed, match="No space left on device"):
        host.run(fill)
    host.remount("ro")
    with pytest.raises(CommandFailed, match="Read-only file system"):
        host.run(["touch", f"{host.prefix}/new"])
    fresh_lab.reset()
    host.run(fill)


def test_storage_in_a_directory_of_the_machine(
    fresh_lab: Lab, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("storage")
    host = fresh_lab["server3"]
    host.use_directory(directory)
    host.run(["touch", f"{host.prefix}/file"])
    found = [path.name for path in directory.rglob("file")]
    assert found == ["file"]


def test_reset_ends_processes_and_empties_the_storage(fresh_lab: Lab) -> None:
    host = fresh_lab["server2"]
    host.run(["touch", f"{host.prefix}/left", f"{host.home()}/left"])
    with host.popen(["sh", "-c", "sleep 61 & sleep 62"]) as process:
        wait_until(lambda: len(host.processes("^sleep 6[12]")) == 2, "both run")
        fresh_lab.reset()
        assert process.wait(timeout=20) == -signal.SIGKILL
    assert host.processes("sleep") == []
    assert "left" not in host.run(["ls", host.prefix, host.home()]).stdout


def test_run_bounds_and_reports(fresh_lab: Lab) -> None:
    host = fresh_lab.controller
    with pytest.raises(subprocess.TimeoutExpired):
        host.run(["sleep", "63"], timeout_seconds=0.2)
    assert host.processes("^sleep 63") == []
    with pytest.raises(CommandFailed, match="complaint"):
        host.run(["sh", "-c", "echo complaint >&2; exit 3"])
    assert host.run(["sh", "-c", "exit 3"], check=False).returncode == 3
    assert host.run(["cat"], input="\udce9").stdout == "\udce9"
    assert host.python("import tests, socket; print(socket.gethostname())") == "server1\n"


def test_a_command_whose_nsenter_suspended_itself_too_late(fresh_lab: Lab) -> None:
    """As where the whole machine was suspended: that it has ended is told all the same."""
    with fresh_lab.controller.popen(["sleep", "60"], stdout=None, stderr=None) as sleeping:
        assert sleeping.inner_pid() is not None
        os.kill(sleeping.pid, signal.SIGSTOP)
        sleeping.kill()
        assert sleeping.wait(timeout=10) == -signal.SIGKILL
