"""The lines and files of known_hosts as labs have them: by ssh-keygen, and without it."""

from __future__ import annotations

import os
import random
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from envsync.errors import HostKeyRefused
from envsync.ssh.fabric_link import FabricLink
from envsync.ssh.host_settings import HostSettings
from envsync.ssh.known_hosts import KnownHosts, known_hosts
from envsync.ssh.ssh_config import UserConfig
from tests.integration.ssh.logins import no_attempt_to_log_in, other_key
from tests.lab.loopback_sshd import LoopbackSshd

Connect = Callable[..., FabricLink]
BLOB = "AAAAC3NzaC1lZDI1NTE5AAAAIDMugMYm810uuz5oG/phHqxKwCG4KX8hLHdi6Mkn9gMX"
OTHER = "AAAAC3NzaC1lZDI1NTE5AAAAIBhFJmPOkVZUBd6WtjhFZYyDdzhlFC6P7kCWYHzYpeQN"
READERS = ["with-ssh", "without-ssh"]


def environ_of(sshd: LoopbackSshd, reader: str) -> dict[str, str]:
    return sshd.environ if reader == "with-ssh" else {**sshd.environ, "PATH": "/nonexistent"}


def looked_up(
    directory: Path, reader: str, lines: bytes | str, host: str = "gpu02", port: int = 22
) -> KnownHosts:
    file = directory / "known_hosts"
    file.write_bytes(lines.encode() if isinstance(lines, str) else lines)
    path = os.environ["PATH"] if reader == "with-ssh" else "/nonexistent"
    settings = HostSettings("alias", host, "alice", port, user_known_hosts=(file,))
    return known_hosts(settings, UserConfig({"HOME": str(directory), "PATH": path}))


def hashed(directory: Path, name: str, blob: str) -> str:
    """A line for `name` in which the name cannot be read."""
    file = directory / "to_hash"
    file.write_text(f"{name} ssh-ed25519 {blob}\n")
    subprocess.run(["ssh-keygen", "-H", "-f", file], check=True, capture_output=True)
    return file.read_text()


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    ("names", "host", "port", "known"),
    [
        ("*.lab,!bad.lab", "gpu.lab", 22, True),
        ("*.lab,!bad.lab", "bad.lab", 22, False),
        ("!bad.lab,*.lab", "bad.lab", 22, False),
        ("gpu0?", "GPU02", 22, True),
        ("[gpu02]:2222", "gpu02", 2222, True),
        ("[gpu02]:2222", "gpu02", 22, False),
        ("[gpu02]:2222", "gpu02", 2223, False),
        ("[gpu*]:2222", "gpu02", 2222, True),
        ("gpu02", "gpu02", 2222, True),
        ("[::1]:2222", "::1", 2222, True),
        ("[fd00::b]:2222", "fd00::b", 2222, True),
        ("::1", "::1", 22, True),
        ("fd00::*", "fd00::b", 22, True),
        ("gpu02,10.0.0.2", "10.0.0.2", 22, True),
        ("*", "anything", 2222, True),
        ("gpu02.", "gpu02", 22, False),
    ],
)
def test_name_in_a_known_hosts_line_is_matched(
    tmp_path: Path, reader: str, names: str, host: str, port: int, known: bool
) -> None:
    found = looked_up(tmp_path, reader, f"{names} ssh-ed25519 {BLOB}\n", host, port)
    assert bool(found.trusted) is known


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", ["gpu02", "[gpu02]:2222", "[::1]:2222"])
def test_hashed_name_is_matched(tmp_path: Path, reader: str, name: str) -> None:
    host, _, port = name.removeprefix("[").partition("]:")
    line = hashed(tmp_path, name, BLOB)
    assert looked_up(tmp_path, reader, line, host, int(port or 22)).trusted
    assert looked_up(tmp_path, reader, f"@revoked {line}", host, int(port or 22)).revoked
    assert not looked_up(tmp_path, reader, line, "gpu03", int(port or 22)).keys


@pytest.mark.parametrize("reader", READERS)
def test_garbage_hides_no_line(tmp_path: Path, reader: str) -> None:
    """Bytes that are no text, endless lines, carriage returns, half lines, markers alone."""
    noise = random.Random(7)
    junk = [
        noise.randbytes(300).replace(b"\n", b"").replace(b"\0", b""),
        b"gpu02",
        b"gpu02 ssh-ed25519",
        b"@revoked",
        b"@cert-authority *",
        b"@unknown-marker gpu02 ssh-ed25519 " + OTHER.encode(),
        b"|1|x|y ssh-ed25519 " + BLOB.encode(),
        b"gpu02 " + b"x" * 20_000,
        b"\t # indented comment",
    ]
    good = f"  gpu02 ssh-ed25519 {BLOB} a comment with blanks\r".encode()
    revoked = f"@revoked gpu* ssh-ed25519 {OTHER}\r".encode()
    text = b"\n".join([*junk, good, *junk, revoked, *junk]) + b"\n"
    found = looked_up(tmp_path, reader, text)
    assert len(found.trusted) == 1
    assert found.trusted[0].where.endswith(f"known_hosts:{len(junk) + 1}")
    assert len(found.revoked) == 1
    assert not found.has_authority


@pytest.mark.parametrize("reader", READERS)
def test_a_key_revoked_for_the_host_is_revoked_at_its_other_ports(
    tmp_path: Path, reader: str
) -> None:
    """Stricter than OpenSSH, which looks the port's name up and leaves it there."""
    text = f"[gpu02]:2222 ssh-ed25519 {BLOB}\n@revoked gpu02 ssh-ed25519 {BLOB}\n"
    assert looked_up(tmp_path, reader, text, port=2222).revoked


def test_other_ports_have_other_keys(tmp_path: Path, sshd: LoopbackSshd, connect: Connect) -> None:
    """Not "changed", which would have a person remove the key of the sshd at port 22."""
    sshd.known_hosts.write_text(f"127.0.0.1 {other_key(tmp_path)}\n")
    with pytest.raises(HostKeyRefused, match="is not in known_hosts") as caught:
        connect(sshd)
    assert "ssh-keygen -R" not in caught.value.hint
    assert no_attempt_to_log_in(sshd)


@pytest.mark.parametrize("reader", READERS)
def test_lines_of_several_known_hosts_files_count(
    tmp_path: Path, sshd: LoopbackSshd, connect: Connect, reader: str
) -> None:
    """A key in the second of the user's, a revocation in the system's."""
    ssh = sshd.home / ".ssh"
    known = sshd.known_hosts.read_text()
    (ssh / "second hosts").write_text(known)
    sshd.known_hosts.write_text("")
    with (ssh / "config").open("a") as config:
        config.write('  UserKnownHostsFile ~/.ssh/known_hosts "~/.ssh/second hosts"\n')
        config.write(f"  GlobalKnownHostsFile {tmp_path}/global\n")
    connect(sshd, environ=environ_of(sshd, reader))
    name, _, key = known.partition(" ")
    (tmp_path / "global").write_text(f"@revoked {name} {key}")
    with pytest.raises(HostKeyRefused, match="revoked") as caught:
        connect(sshd, environ=environ_of(sshd, reader))
    assert f"{tmp_path}/global:1" in caught.value.hint


def test_a_changed_key_is_removed_from_the_file_that_has_it(
    tmp_path: Path, sshd: LoopbackSshd, connect: Connect
) -> None:
    old = tmp_path / "of the lab"
    old.write_text(f"[127.0.0.1]:{sshd.port} {other_key(tmp_path)}\n")
    sshd.known_hosts.unlink()
    with (sshd.home / ".ssh" / "config").open("a") as config:
        config.write(f'  UserKnownHostsFile ~/.ssh/known_hosts "{old}"\n')
    with pytest.raises(HostKeyRefused, match="has changed") as caught:
        connect(sshd)
    command = caught.value.hint.partition("reinstalled: ")[2]
    subprocess.run(command, shell=True, check=True, capture_output=True)
    assert old.read_text() == ""


def test_a_file_that_cannot_hold_a_key(sshd: LoopbackSshd, connect: Connect) -> None:
    """`>> /dev/null` mends nothing."""
    with (sshd.home / ".ssh" / "config").open("a") as config:
        config.write("  UserKnownHostsFile /dev/null\n  StrictHostKeyChecking no\n")
    with pytest.raises(HostKeyRefused, match="not in known_hosts") as caught:
        connect(sshd)
    assert "set UserKnownHostsFile to a file for loopback" in caught.value.hint


def test_a_command_that_knows_hosts_is_named(sshd: LoopbackSshd, connect: Connect) -> None:
    sshd.known_hosts.write_text("")
    with (sshd.home / ".ssh" / "config").open("a") as config:
        config.write("  KnownHostsCommand /bin/true\n")
    with pytest.raises(HostKeyRefused, match="not in known_hosts") as caught:
        connect(sshd)
    assert "the KnownHostsCommand of the ssh configuration is not run" in caught.value.details


@pytest.fixture
def ordinary_user() -> Iterator[Callable[[], None]]:
    """Called, it makes this process one that is not root, until the test ends."""
    if os.geteuid() != 0:
        yield lambda: None
        return
    yield lambda: os.setresuid(65534, 65534, 0)
    os.setresuid(0, 0, 0)


@pytest.fixture
def open_to_all() -> Iterator[Path]:
    """Not in pytest's own directory, whose modes are not this test's alone."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.parametrize("reader", READERS)
def test_a_file_that_may_not_be_read_is_named(
    open_to_all: Path, reader: str, ordinary_user: Callable[[], None]
) -> None:
    """As OpenSSH, it does not count; but whoever is refused learns of it."""
    (open_to_all / "secret").write_text(f"gpu02 ssh-ed25519 {BLOB}\n")
    (open_to_all / "secret").chmod(0)
    files = (open_to_all / "secret", open_to_all / "not there")
    settings = HostSettings("x", "gpu02", "alice", 22, user_known_hosts=files)
    path = os.environ["PATH"] if reader == "with-ssh" else "/nonexistent"
    ordinary_user()
    found = known_hosts(settings, UserConfig({"HOME": str(open_to_all), "PATH": path}))
    assert not found.keys
    assert found.unasked == (f"{open_to_all}/secret exists, but is not readable by this user",)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("end", ["\r", "\x0c", "\x1c", "\x85", "\u2028"])
def test_a_comment_is_no_line_of_its_own(tmp_path: Path, reader: str, end: str) -> None:
    """Only a newline ends a line: a key behind anything else is trusted by nobody."""
    assert not looked_up(tmp_path, reader, f"# old:{end}gpu02 ssh-ed25519 {BLOB}\n").keys
