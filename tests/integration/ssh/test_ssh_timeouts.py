"""Every wait ends: against servers that stop answering at each step."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import paramiko
import pytest

from envsync.errors import ConnectionFailed, ConnectionLost, EnvsyncError
from envsync.ssh import fabric_link, openssh_link, sftp_upload
from envsync.ssh.fabric_link import FabricLink
from envsync.ssh.handshakes import HandshakeLimiter
from envsync.ssh.route import ResolvedRoute
from envsync.ssh.session import Address, Link, Timeouts
from tests.integration.ssh.paramiko_server import server, stalling_server
from tests.integration.ssh.session_contract import sh
from tests.lab.loopback_sshd import free_port
from tests.support.links import open_fabric_link, upload
from tests.support.processes import wait_until

SHORT_SECONDS = 0.6
# Of what has to be told from other ends of the same step, so that a busy machine has got so far.
AMPLE_SECONDS = 2.0
# Above every limit here, below paramiko's own (15 s, 30 s, one hour, never) and our usual ones.
SOON_SECONDS = 12.0
ONCE = HandshakeLimiter(attempts=1)


def link_to(port: int, home: Path, **seconds: float) -> FabricLink:
    """`seconds` are the limits of the steps that are not going to be done; others have time."""
    environ = {"HOME": str(home), "PATH": "/usr/bin:/bin"}
    address = Address("server2", "127.0.0.1", port=port)
    return open_fabric_link(address, Timeouts(**seconds), environ=environ, limiter=ONCE)


@contextlib.contextmanager
def fails_soon(match: str) -> Iterator[pytest.ExceptionInfo[EnvsyncError]]:
    began = time.monotonic()
    with pytest.raises(EnvsyncError, match=match) as caught:
        yield caught
    assert time.monotonic() - began < SOON_SECONDS
    assert caught.value.server == "server2"
    assert isinstance(caught.value, ConnectionFailed)


def test_refused_connection_ends_at_once(home: Path) -> None:
    with fails_soon("refuses connections"):
        link_to(free_port(), home)


def test_no_answer_to_the_connection(home: Path) -> None:
    with socket.socket() as listener, contextlib.ExitStack() as stack:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        target = listener.getsockname()
        # Once the queue of a listener that never accepts is full, the kernel drops SYNs.
        for _ in range(3):
            sock = stack.enter_context(socket.socket())
            sock.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                sock.connect(target)
        with fails_soon("does not answer"):
            link_to(target[1], home, connect_seconds=SHORT_SECONDS)


def test_server_without_a_banner_ends_in_time(home: Path) -> None:
    with server(lambda _: None) as port, fails_soon("sends no SSH banner"):
        link_to(port, home, banner_seconds=SHORT_SECONDS)


def test_a_banner_that_never_ends(home: Path) -> None:
    def drip(connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection.sendall(b"x")
                time.sleep(0.02)

    with server(drip) as port, fails_soon("is not an SSH server"):
        link_to(port, home, banner_seconds=AMPLE_SECONDS)


def test_server_that_speaks_no_ssh_ends_at_once(home: Path) -> None:
    def greet(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        connection.close()

    with server(greet) as port, fails_soon("is not an SSH server") as told:
        link_to(port, home)
    assert told.value.details == ("it says: HTTP/1.1 400 Bad Request",)


def test_server_that_hangs_up_after_its_banner_is_reported(home: Path) -> None:
    def greet(connection: socket.socket) -> None:
        connection.sendall(b"SSH-2.0-short\r\n")
        connection.recv(1000)
        connection.close()

    with server(greet) as port, fails_soon("closed the connection during the handshake") as told:
        link_to(port, home)
    assert "it says" not in "".join(told.value.details)


def test_garbage_instead_of_a_banner(home: Path) -> None:
    """Lines without end, none of which is SSH's; control characters are the terminal's affair."""

    def babble(connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection.sendall(b"\x1b[2J\xff\x00 no ssh\r\n" * 100)

    with server(babble) as port, fails_soon("is not an SSH server") as told:
        link_to(port, home, banner_seconds=AMPLE_SECONDS)
    assert told.value.details == ("it says: \x1b[2J\\xff\x00 no ssh",)


def test_a_jump_host_that_says_nothing(home: Path) -> None:
    environ = {"HOME": str(home), "PATH": "/usr/bin:/bin"}
    with server(lambda _: None) as port, fails_soon("the jump host 127.0.0.1:.* no SSH banner"):
        address = Address("server2", "gpu02", jump=f"127.0.0.1:{port}")
        timeouts = Timeouts(banner_seconds=SHORT_SECONDS)
        open_fabric_link(address, timeouts, environ=environ, limiter=ONCE)


def test_no_key_exchange(home: Path) -> None:
    def greet(connection: socket.socket) -> None:
        connection.sendall(b"SSH-2.0-mute\r\n")

    with server(greet) as port, fails_soon("did not finish the handshake in time"):
        link_to(port, home, banner_seconds=AMPLE_SECONDS)


def test_no_authentication_for_a_user_without_a_key(home: Path) -> None:
    (home / ".ssh" / "id_ed25519").unlink()
    with stalling_server("authentication", home) as port, fails_soon("authentication within"):
        link_to(port, home, authentication_seconds=AMPLE_SECONDS)


def test_garbage_instead_of_a_key_exchange(home: Path) -> None:
    def babble(connection: socket.socket) -> None:
        connection.sendall(b"SSH-2.0-mute\r\n" + b"\x00\x00\x00\x0c\x05garbage!!!!" * 50)

    with server(babble) as port, fails_soon("does not speak SSH"):
        link_to(port, home)


def test_no_end_of_the_authentication(home: Path) -> None:
    with stalling_server("authentication", home) as port, fails_soon("authentication"):
        link_to(port, home, authentication_seconds=AMPLE_SECONDS)


def test_server_that_opens_no_channel_ends_in_time(home: Path) -> None:
    with stalling_server("channel", home) as port:
        link = link_to(port, home, channel_seconds=SHORT_SECONDS)
        with fails_soon("opened no session in time"):
            link.run(sh("true"))
        link.close()


def test_no_answer_to_the_command(home: Path) -> None:
    with stalling_server("exec", home) as port:
        link = link_to(port, home, channel_seconds=AMPLE_SECONDS)
        with fails_soon("does not start commands"):
            link.run(sh("true"))
        link.close()


@pytest.mark.parametrize("step", ["subsystem", "its first answer"])
def test_no_answer_of_sftp(home: Path, step: str) -> None:
    with stalling_server(step, home) as port:
        short = {"channel_seconds": SHORT_SECONDS, "silence_seconds": SHORT_SECONDS}
        link = link_to(port, home, **short)
        began = time.monotonic()
        with pytest.raises(EnvsyncError) as caught:
            upload(link, home / ".ssh" / "id_ed25519", Path("/nonexistent/target"))
        assert time.monotonic() - began < SOON_SECONDS
        assert caught.value.server == "server2"
        assert "has no sftp" not in caught.value.message, "that is not known: it says nothing"
        link.close()


def test_an_sftp_that_ends_at_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the whole link, before the first word of ours."""

    def late(channel: paramiko.Channel) -> paramiko.SFTPClient:
        channel.get_transport().packetizer.close()
        wait_until(lambda: channel.closed, "the channel is closed")
        return paramiko.SFTPClient(channel)

    with stalling_server("nothing", home) as port:
        link = link_to(port, home)
        monkeypatch.setattr(sftp_upload, "SFTPClient", late)
        with pytest.raises(ConnectionLost) as caught:
            upload(link, home / ".ssh" / "id_ed25519", Path("/nonexistent/target"))
        assert caught.value.server == "server2"
        link.close()


def test_a_proxy_command_that_says_nothing(home: Path) -> None:
    (home / ".ssh" / "config").write_text("Host mute\n  ProxyCommand sleep 20\n")
    environ = {"HOME": str(home), "PATH": "/usr/bin:/bin"}
    with fails_soon("sends no SSH banner"):
        timeouts = Timeouts(banner_seconds=SHORT_SECONDS)
        open_fabric_link(Address("server2", "mute"), timeouts, environ=environ, limiter=ONCE)


def test_a_proxy_command_that_fails(home: Path) -> None:
    command = "sh -c 'echo nc: no route >&2; exit 1'"
    (home / ".ssh" / "config").write_text(f"Host mute\n  ProxyCommand {command}\n")
    environ = {"HOME": str(home), "PATH": "/usr/bin:/bin"}
    with fails_soon("behind a ProxyCommand that failed") as told:
        open_fabric_link(Address("server2", "mute"), environ=environ, limiter=ONCE)
    assert told.value.details == ("nc: no route",)
    assert told.value.hint == f"try it by hand: {command}"


DENIED = "alice@bastion: Permission denied (publickey)."
CROWDED = "kex_exchange_identification: Connection closed by remote host"
BANNER = "Authorized users only. All activity is monitored."


def _error_behind(
    script: str, attempts: int, home: Path, open_route: Callable[..., Link]
) -> ConnectionFailed:
    """Return the error for a server behind this ProxyCommand, after so many runs of it."""
    starts, file = home / "starts", home / "proxy"
    file.write_text(f"echo started >> {starts}; {script}")
    (home / ".ssh" / "config").write_text(f"Host far\n  ProxyCommand sh {file}\n")
    environ = {"HOME": str(home), "PATH": "/usr/bin:/bin"}
    limiter = HandshakeLimiter(attempts=3, sleep=lambda _: None)
    with fails_soon("far") as caught:
        open_route(ResolvedRoute.find(Address("server2", "far"), environ), Timeouts(), limiter)
    assert starts.read_text().split() == ["started"] * attempts
    assert isinstance(caught.value, ConnectionFailed)
    return caught.value


@pytest.mark.parametrize("open_route", [fabric_link.open_route, openssh_link.open_route])
@pytest.mark.parametrize(
    ("words", "attempts"), [(DENIED, 1), (f"{BANNER}\n{DENIED}", 1), (CROWDED, 3)]
)
def test_a_failing_proxy_command_is_run_again_unless_it_was_refused(
    home: Path, open_route: Callable[..., Link], words: str, attempts: int
) -> None:
    error = _error_behind(f"echo '{words}' >&2; exit 255", attempts, home, open_route)
    assert "behind a ProxyCommand that failed" in error.message
    assert error.hint == f"try it by hand: sh {home / 'proxy'}"
    assert set(words.splitlines()) <= set(error.details)


@pytest.mark.parametrize("open_route", [fabric_link.open_route, openssh_link.open_route])
def test_a_crowded_server_behind_a_bastion_with_a_banner_is_tried_again(
    home: Path, open_route: Callable[..., Link]
) -> None:
    script = f"echo '{BANNER}' >&2; read -r _; echo Exceeded MaxStartups"
    error = _error_behind(script, 3, home, open_route)
    assert "closed the connection during the handshake" in error.message
    assert error.details == ("it says: Exceeded MaxStartups",)


@pytest.mark.parametrize("open_route", [fabric_link.open_route, openssh_link.open_route])
def test_a_silent_drop_behind_a_bastion_with_a_banner_is_tried_again(
    home: Path, open_route: Callable[..., Link]
) -> None:
    _error_behind(f"echo '{BANNER}' >&2", 3, home, open_route)
