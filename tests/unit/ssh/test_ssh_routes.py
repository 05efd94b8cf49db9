"""Jump hosts, known_hosts lines, and what the configuration says, without any ssh."""

from __future__ import annotations

import os
import pwd
import socket
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envsync.errors import AuthenticationRefused, ConnectionFailed, UsageError
from envsync.ssh import tcp_connection
from envsync.ssh.bounded_socket import BoundedSocket
from envsync.ssh.host_settings import HostSettings
from envsync.ssh.known_hosts import KnownHosts, KnownKey, known_hosts
from envsync.ssh.route import ResolvedRoute, find_route, parse_jump
from envsync.ssh.session import Address, Reached, Timeouts
from envsync.ssh.ssh_config import UserConfig
from envsync.ssh.system_ssh import ssh_argv


def config_in(home: Path, text: str) -> UserConfig:
    (home / ".ssh").mkdir(exist_ok=True)
    (home / ".ssh" / "config").write_text(text)
    return UserConfig({"HOME": str(home), "PATH": "/nonexistent"})


@pytest.mark.parametrize(
    ("text", "host", "user", "port"),
    [
        ("bastion", "bastion", None, None),
        ("bob@bastion:2222", "bastion", "bob", 2222),
        ("b@d@bastion", "bastion", "b@d", None),
        ("ssh://bob@bastion:22/", "bastion", "bob", 22),
        ("[fe80::1%eth0]:22", "fe80::1%eth0", None, 22),
        ("fe80::1", "fe80::1", None, None),
    ],
)
def test_jump_host_is_parsed(text: str, host: str, user: str | None, port: int | None) -> None:
    assert parse_jump(text) == Address("", host, user, port)


@given(st.text(max_size=30))
def test_any_jump_is_parsed_or_refused(text: str) -> None:
    try:
        assert parse_jump(text).host
    except UsageError:
        pass


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_ports_that_are_none(tmp_path: Path, port: int) -> None:
    with pytest.raises(UsageError):
        find_route(Address("s", "host", port=port), config_in(tmp_path, ""))


def test_settings_without_the_ssh_command(tmp_path: Path) -> None:
    text = """
        Host gpu*
          HostName %h.lab.example
          User alice
          Port 2222
          IdentityFile ~/.ssh/lab-%r
          IdentitiesOnly yes
          HostKeyAlias cluster
          ProxyJump bob@bastion
          UserKnownHostsFile ~/.ssh/lab_hosts /abs/%k
    """
    config = config_in(tmp_path, text)
    jump, gpu = find_route(Address("server2", "gpu07"), config)
    assert (jump.hostname, jump.user, jump.port) == ("bastion", "bob", 22)
    assert gpu.reached == Reached("gpu07", "gpu07.lab.example", "alice", 2222, "bob@bastion")
    assert gpu.identity_files == (tmp_path / ".ssh" / "lab-alice",)
    assert gpu.identities_only
    assert gpu.host_key_alias == "cluster"
    assert gpu.user_known_hosts == (tmp_path / ".ssh" / "lab_hosts", Path("/abs/cluster"))


def test_inventory_wins_over_the_ssh_configuration(tmp_path: Path) -> None:
    config = config_in(tmp_path, "Host *\n User x\n Port 1\n ProxyJump y\n IdentityFile /z\n")
    (tmp_path / "key").touch()
    address = Address("s", "h", "alice", 2222, "none", Path("~/key"))
    (only,) = find_route(address, config)
    assert only.reached == Reached("h", "h", "alice", 2222, None, tmp_path / "key")
    assert only.identity_files == (tmp_path / "key", Path("/z"))


def test_an_identity_file_that_is_not_there(tmp_path: Path) -> None:
    address = Address("s", "h", identity_file=Path("~/key"))
    config = config_in(tmp_path, "")
    with pytest.raises(AuthenticationRefused, match="cannot be read"):
        find_route(address, config)
    (tmp_path / "key.pub").touch()
    assert find_route(address, config)[-1].identity_files[0] == tmp_path / "key"


def test_an_identity_file_of_another_user(tmp_path: Path) -> None:
    """Of the inventory and of the configuration; whoever is not there stays as written."""
    me = pwd.getpwuid(os.getuid())
    config = config_in(tmp_path, f"IdentityAgent ~{me.pw_name}/agent\n")
    settings = config.lookup(Address("", "h", identity_file=Path(f"~{me.pw_name}/key")))
    assert settings.identity_files[0] == Path(me.pw_dir, "key")
    assert settings.identity_agent == f"{me.pw_dir}/agent"
    gone = config.lookup(Address("", "h", identity_file=Path("~nobody-here/key")))
    assert gone.given_identity == Path("~nobody-here/key")


def _unknown(uid: int) -> NoReturn:
    raise KeyError(uid)


@pytest.mark.parametrize("variable", ["LOGNAME", "USER"])
def test_a_user_without_a_name_is_told_to_give_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """As in a container, where the uid is anyone's: also if the server's `user:` is given."""
    monkeypatch.setattr(pwd, "getpwuid", _unknown)
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    config = UserConfig({"HOME": str(tmp_path)})
    for address in (Address("", "h"), Address("", "h", user="alice")):
        with pytest.raises(ConnectionFailed, match=f"the uid {os.getuid()} is not in") as caught:
            config.lookup(address)
        assert caught.value.hint.endswith(": export LOGNAME=NAME")
    monkeypatch.setenv(variable, "bob")
    assert config.lookup(Address("", "h")).user == "bob"
    assert config.lookup(Address("", "h", user="alice")).user == "alice"


def test_a_user_without_a_name_has_no_use_for_openssh(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its programs refuse to run for a uid that is not in the password database."""

    for name in ("ssh", "ssh-keygen"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    environ = {"HOME": str(tmp_path), "PATH": str(tmp_path)}
    assert UserConfig(environ).ssh_command == str(tmp_path / "ssh")
    monkeypatch.setattr(pwd, "getpwuid", _unknown)
    config = UserConfig(environ)
    assert (config.ssh_command, config.keygen_command) == (None, None)
    with pytest.raises(ConnectionFailed, match="no usable ssh command") as caught:
        ssh_argv(ResolvedRoute("s", config, ()), Timeouts())
    assert caught.value.hint.startswith(f"add the uid {os.getuid()} to /etc/passwd")


@pytest.mark.parametrize("family", ["any", "inet", "inet6"])
def test_connections_are_of_the_family_that_is_asked_for(family: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        settings = HostSettings("x", "127.0.0.1", "alice", port, address_family=family)
        if family == "inet6":
            with pytest.raises(socket.gaierror):
                tcp_connection.connect(settings, 5, 60)
        else:
            with tcp_connection.connect(settings, 5, 60) as sock:
                assert sock.getpeername() == ("127.0.0.1", port)


def test_every_address_of_a_name_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of a family that this machine does not have, one that refuses, one that answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        stream = (socket.SOCK_STREAM, 0, "")
        answers = listener.getsockname()
        refuses = (socket.AF_INET, *stream, ("127.0.0.2", 1))
        addresses = [(9999, *stream, ("::1", 1)), refuses, (socket.AF_INET, *stream, answers)]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_: addresses)
        settings = HostSettings("x", "name", "alice", 22)
        with tcp_connection.connect(settings, 5, 60) as sock:
            assert sock.getpeername() == answers
        addresses.pop()
        with pytest.raises(ConnectionRefusedError):
            tcp_connection.connect(settings, 5, 60)


def test_connect_timeout_lengthens_and_does_not_shorten(tmp_path: Path) -> None:
    lines = "Host slow\n ConnectTimeout 90\nHost h\n ConnectTimeout 2\n"
    environ = config_in(tmp_path, lines).environ
    slow = ResolvedRoute.find(Address("s", "h", jump="slow"), environ).connect_timeout_seconds
    quick = ResolvedRoute.find(Address("s", "h"), environ).connect_timeout_seconds
    assert (slow, quick) == (90, 2)
    usual = Timeouts()
    assert usual.at_least(quick) == usual
    long = usual.at_least(slow)
    assert (long.connect_seconds, long.banner_seconds, long.channel_seconds) == (90, 90, 90)
    assert long.silence_seconds == usual.silence_seconds


BLOB = "AAAAC3NzaC1lZDI1NTE5AAAAIDMugMYm810uuz5oG/phHqxKwCG4KX8hLHdi6Mkn9gMX"


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ("gpu02", True),
        ("GPU02", True),
        ("other,gpu02", True),
        ("gpu0?", True),
        ("gpu*,!gpu02", False),
        ("!gpu03,gpu*", True),
        ("gpu[02]", False),
        ("|1|1Z1Zk/siw/EecQgJX6ppeaHdFWs=|Kff++Tzhwqe8lFf8onzQUBkERTQ=", False),
        ("|1|broken", False),
        ("gpu021", False),
    ],
)
def test_lines_are_matched_as_openssh_does(tmp_path: Path, names: str, found: bool) -> None:
    file = tmp_path / "known_hosts"
    file.write_text(f"# gpu02 ssh-ed25519 {BLOB}\n{names} ssh-ed25519 {BLOB} comment\n")
    settings = HostSettings("x", "gpu02", "alice", 22, user_known_hosts=(file,))
    assert bool(known_hosts(settings, config_in(tmp_path, "")).trusted) is found


def test_a_hashed_line_with_a_marker(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    hashed = "|1|1Z1Zk/siw/EecQgJX6ppeaHdFWs=|Kff++Tzhwqe8lFf8onzQUBkERTQ="
    file.write_text(f"@revoked {hashed} ssh-ed25519 {BLOB}\n@cert-authority * ssh-rsa {BLOB}\n")
    settings = HostSettings("x", "foo", "alice", 22, user_known_hosts=(file,))
    known = known_hosts(settings, config_in(tmp_path, ""))
    assert not known.trusted
    assert [key.where for key in known.revoked] == [f"{file}:1"]
    assert known.has_authority


def test_a_file_whose_name_ends_like_a_lines_number(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts:12"
    file.write_text(f"\ngpu02 ssh-ed25519 {BLOB}\n")
    settings = HostSettings("x", "gpu02", "alice", 22, user_known_hosts=(file,))
    [key] = known_hosts(settings, config_in(tmp_path, "")).trusted
    assert (key.file, key.where) == (str(file), f"{file}:2")


def test_known_algorithms_come_first() -> None:
    known = KnownHosts("h", (KnownKey("ssh-rsa", b"", "", ""), KnownKey("x", b"", "", "")))
    offered = ("ssh-ed25519", "ecdsa-sha2-nistp256", "rsa-sha2-512", "rsa-sha2-256")
    assert known.preferred(offered) == (*offered[2:], *offered[:2])


def test_a_stalled_socket_ends() -> None:
    """The first short timeout only starts the clock; progress stops it."""
    clock = [0.0]

    class Stalling:
        full = True

        def send(self, data: bytes, /) -> int:
            if self.full:
                raise TimeoutError
            return len(data)

        def recv(self, size: int, /) -> bytes:
            return b""

        def settimeout(self, seconds: float | None, /) -> None: ...

        def close(self) -> None: ...

    inner = Stalling()
    bounded = BoundedSocket(inner, 10, clock=lambda: clock[0])
    for clock[0] in (0.0, 9.0):
        with pytest.raises(TimeoutError):
            bounded.send(b"x")
    inner.full = False
    clock[0] = 9.5
    assert bounded.send(b"x") == 1
    inner.full = True
    for clock[0] in (12.0, 21.0):
        with pytest.raises(TimeoutError, match=r"^$"):
            bounded.send(b"x")
    clock[0] = 22.0
    with pytest.raises(OSError, match="accepts no data"):
        bounded.send(b"x")


def test_closing_wakes_who_waits() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        BoundedSocket(ours, 1).close()
        assert theirs.recv(1) == b""


def test_the_seam_is_light() -> None:
    """`envsync --help` must not pay for fabric."""
    script = (
        "import sys, envsync.ssh.session;"
        "print([m for m in ('fabric', 'paramiko', 'cryptography') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert done.stdout.strip() == b"[]"
