"""The demo's embedded SSH server, met by the links that pushes use."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from envsync.cli.demo import machines as demo_machines
from envsync.cli.demo.machines import Machine
from envsync.cli.demo.server import make_key
from envsync.errors import AuthenticationRefused, EnvsyncError, HostKeyRefused
from envsync.ssh.session import Address
from tests.support.links import open_fabric_link
from tests.support.processes import wait_until


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with demo_machines.running(tmp_path, ["server1"]) as machines:
        yield machines[0]


def test_a_server_imports_nothing_from_where_the_demo_was_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started_in = tmp_path / "here"
    (started_in / "envsync").mkdir(parents=True)
    for name in ("tempfile.py", "paramiko.py", "envsync/__init__.py"):
        (started_in / name).write_text("raise SystemExit('a stray file was imported')\n")
    monkeypatch.chdir(started_in)
    with demo_machines.running(tmp_path / "demo", ["server1"]) as [machine]:
        assert machine.run("echo it runs") == "it runs"


def link_with(tmp_path: Path, **changes: str) -> Address:
    """An address like the demo's own; a file of its .ssh may be replaced first."""
    for name, text in changes.items():
        (tmp_path / "home" / ".ssh" / name).write_text(text)
    return Address(server="server1", host="server1")


def environ(tmp_path: Path) -> dict[str, str]:
    return {"HOME": str(tmp_path / "home"), "PATH": os.environ["PATH"]}


def is_alive(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_commands_run_in_a_home_of_their_own(machine: Machine, tmp_path: Path) -> None:
    said = machine.run("echo $HOME; pwd; echo $USER; echo ${SSH_AUTH_SOCK-none}")
    home = str(tmp_path / "server1" / "home")
    assert said.splitlines() == [home, home, "demo", "none"]


def test_a_failure_has_its_exit_status_and_stderr(machine: Machine) -> None:
    with pytest.raises(EnvsyncError) as caught:
        machine.run("echo the reason >&2; exit 3")
    assert "exit status 3" in caught.value.message
    assert "the reason" in caught.value.details
    assert caught.value.server == "server1"


def test_quick_commands_are_granted_before_they_are_over(machine: Machine) -> None:
    with contextlib.closing(machine.open_link()) as link:
        for number in range(50):
            session = link.run(f"exec /bin/sh -c 'echo {number}'")
            assert session.read(100) == f"{number}\n".encode()
            assert session.exit_status(10) == 0
            session.close()


def test_megabytes_pass_both_ways(machine: Machine) -> None:
    data = os.urandom(1 << 20) * 8
    with contextlib.closing(machine.open_link()) as link:
        session = link.run("exec /bin/sh -c 'exec head -c 8388608'")
        session.write(data)
        received = b""
        while block := session.read(1 << 20):
            received += block
        assert received == data
        assert session.exit_status(10) == 0


def test_demo_server_refuses_another_key(machine: Machine, tmp_path: Path) -> None:
    other = tmp_path / "other"
    make_key(other)
    address = link_with(tmp_path, id_ecdsa=other.read_text())
    with pytest.raises(AuthenticationRefused):
        open_fabric_link(address, environ=environ(tmp_path))


def test_demo_server_refuses_another_user(machine: Machine, tmp_path: Path) -> None:
    address = Address(server="server1", host="server1", user="somebody")
    with pytest.raises(AuthenticationRefused):
        open_fabric_link(address, environ=environ(tmp_path))


def test_host_key_of_a_demo_server_is_checked(machine: Machine, tmp_path: Path) -> None:
    address = link_with(tmp_path, known_hosts="")
    with pytest.raises(HostKeyRefused):
        open_fabric_link(address, environ=environ(tmp_path))


def test_demo_server_listens_on_loopback_only(machine: Machine) -> None:
    port = f":{machine.port:04X}"
    tables = [Path("/proc/net/tcp"), Path("/proc/net/tcp6")]
    lines = [line.split() for table in tables for line in table.read_text().splitlines()[1:]]
    listening = [fields[1] for fields in lines if fields[3] == "0A" and fields[1].endswith(port)]
    assert listening == [f"0100007F{port}"]


def test_a_command_ends_when_its_channel_does(machine: Machine) -> None:
    with contextlib.closing(machine.open_link()) as link:
        session = link.run("exec /bin/sh -c 'echo $$; exec cat'")
        pid = int(session.read(100))
        assert is_alive(pid)
        session.close()
        wait_until(lambda: not is_alive(pid), "the command has seen its input end")


def test_nothing_outlives_the_server(tmp_path: Path) -> None:
    with demo_machines.running(tmp_path, ["server1"]) as machines:
        link = machines[0].open_link()
        # Deaf to the end of its input.
        session = link.run("exec /bin/sh -c 'echo $$; exec sleep 1000'")
        pid = int(session.read(100))
        assert is_alive(pid)
    wait_until(lambda: not is_alive(pid), "the server has ended its commands")
    link.close()
