"""The daemon's control socket: who gets in, and what is answered."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from envsync.daemon import control
from envsync.daemon.control import ControlSocket, ask
from envsync.daemon.paths import DaemonPaths
from envsync.daemon.request_handler import RequestHandler
from envsync.errors import EnvsyncError, Locked, NotFound, StorageFailed, UsageError

if TYPE_CHECKING:
    from envsync.daemon.log import Log
    from envsync.daemon.scheduler import Scheduler


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Deeper than an address of a socket can say."""
    return tmp_path / ("deep" * 30) / "control"


@pytest.fixture
def control_socket(path: Path) -> Iterator[ControlSocket]:
    found = ControlSocket(path)
    yield found
    found.close()
    assert not path.exists()


def answering(control_socket: ControlSocket, answer: Any = None) -> threading.Thread:
    def handle(request: control.Request) -> control.Answer:
        if isinstance(answer, EnvsyncError):
            raise answer
        return {"heard": dict(request)}

    control_socket._socket.settimeout(30)
    thread = threading.Thread(target=control_socket.serve_one, args=(handle,))
    thread.start()
    return thread


def test_question_is_answered_over_a_private_socket(
    control_socket: ControlSocket, path: Path
) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    thread = answering(control_socket)
    assert ask(path, {"verb": "status"}) == {"heard": {"verb": "status"}}
    thread.join()


def test_an_error_arrives_as_its_own_class(control_socket: ControlSocket, path: Path) -> None:
    thread = answering(control_socket, NotFound("no such environment", hint="try another"))
    with pytest.raises(NotFound) as raised:
        ask(path, {"verb": "sync"})
    assert raised.value.hint == "try another"
    thread.join()


def test_question_without_a_daemon_has_no_answer(tmp_path: Path, path: Path) -> None:
    assert ask(tmp_path / "none" / "control", {}) is None
    ControlSocket(path)._socket.close()  # killed: the socket is left
    assert path.exists()
    assert ask(path, {}) is None
    again = ControlSocket(path)  # and taken over
    again.close()


def test_half_an_answer_is_no_bug(tmp_path: Path) -> None:
    """A push by hand asks the daemon, too, and is not to end where that ends meanwhile."""
    path = tmp_path / "control"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(str(path))
        listening.listen(1)
        listening.settimeout(30)

        def end_early() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b'{"status": {"dae')

        thread = threading.Thread(target=end_early)
        thread.start()
        with pytest.raises(EnvsyncError, match="cut short"):
            ask(path, {"verb": "status"})
        thread.join()


@pytest.mark.parametrize("sent", [b"", b"no json\n", b"[1]\n", b"{", b"[" * 50_000 + b"\n"])
def test_a_strange_caller_does_no_harm(
    control_socket: ControlSocket, path: Path, sent: bytes
) -> None:
    thread = answering(control_socket)
    with socket.socket(socket.AF_UNIX) as caller, control._short(path) as name:
        caller.connect(name)
        caller.sendall(sent)
        caller.shutdown(socket.SHUT_WR)
        answer = caller.recv(10_000)
    thread.join()
    if sent == b"[1]\n":
        assert "error" in json.loads(answer)
    else:
        assert answer == b""


def test_a_caller_who_says_nothing_is_left(
    control_socket: ControlSocket, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "_SEND_SECONDS", 0.05)
    thread = answering(control_socket)
    with socket.socket(socket.AF_UNIX) as caller, control._short(path) as name:
        caller.connect(name)
        thread.join(30)
        assert not thread.is_alive()


def test_a_caller_who_dawdles_is_left(
    control_socket: ControlSocket, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of its bytes comes in time, and the line never ends."""
    monkeypatch.setattr(control, "_SEND_SECONDS", 0.3)
    thread = answering(control_socket)
    with socket.socket(socket.AF_UNIX) as caller, control._short(path) as name:
        caller.connect(name)
        sent = 0
        with contextlib.suppress(BrokenPipeError):
            while thread.is_alive() and sent < 200:
                caller.send(b" ")
                sent += 1
                thread.join(0.05)
    assert sent < 200
    thread.join()


def test_control_socket_refuses_another_user(
    control_socket: ControlSocket, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "_peer_uid", lambda _: 12345)
    thread = answering(control_socket)
    assert ask(path, {"verb": "status"}) is None
    thread.join()


@pytest.mark.parametrize("verb", [None, 1, [], {"status": 1}, "what"])
def test_unknown_verb_is_refused(verb: object) -> None:
    scheduler, log = cast("Scheduler", None), cast("Log", None)
    with pytest.raises(UsageError, match="does not know"):
        RequestHandler(scheduler, log, dict).handle({"verb": verb})


def test_control_socket_and_database_are_the_users(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)}
    paths = DaemonPaths.of(home, "server1")
    assert paths.database == tmp_path / ".local/state/envsync/on-server1/daemon.sqlite"
    assert paths.socket == tmp_path / "envsync/control"
    assert paths.announced_socket() == paths.socket
    service = DaemonPaths.of(
        {**home, "RUNTIME_DIRECTORY": "/run/envsync-alice:/run/other"}, "server1"
    )
    assert service.socket == Path("/run/envsync-alice/control")
    paths.state.mkdir(parents=True)
    service.announce()
    assert paths.announced_socket() == service.socket
    assert DaemonPaths.of(home, "Odd/1").state == paths.state.parent / "on-odd_1"
    # A domain comes and goes; what is paused stays so.
    assert DaemonPaths.of(home, "server1.lab.example").state == paths.state
    with pytest.raises(UsageError, match="neither HOME nor XDG_STATE_HOME"):
        DaemonPaths.of({"HOME": ""}, "server1")


def test_state_directory_that_the_user_may_not_enter_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It can belong to root, after a `sudo`."""

    def refuse(path: Path) -> bytes:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    paths = DaemonPaths.of({"XDG_STATE_HOME": str(tmp_path)}, "server1")
    with pytest.raises(StorageFailed, match=r"on-server1 cannot be read: Permission denied"):
        paths.announced_socket()


def test_second_daemon_of_a_user_on_one_machine_is_refused(tmp_path: Path) -> None:
    """Whose home may be that of other machines, too."""
    paths = DaemonPaths.of({"XDG_STATE_HOME": str(tmp_path)}, "server1")
    paths.lock()
    with pytest.raises(Locked, match=r"is already running \(process \d+\)"):
        paths.lock()
    other = DaemonPaths.of({"XDG_STATE_HOME": str(tmp_path)}, "server2")
    other.lock()
    assert other.database != paths.database


def test_a_place_where_nothing_can_be_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(fd: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(StorageFailed, match=r"cannot lock a file in .*: No locks available"):
        DaemonPaths.of({"XDG_STATE_HOME": str(tmp_path)}, "server1").lock()


def test_a_full_disk_is_no_reason_not_to_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", refuse)
    paths = DaemonPaths.of({"XDG_STATE_HOME": str(tmp_path)}, "server1")
    paths.lock()
    with pytest.raises(Locked, match="is already running"):
        paths.lock()
    monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(StorageFailed, match=r"cannot create .*: No space left on device"):
        ControlSocket(tmp_path / "control")


def test_a_daemon_that_keeps_its_state_elsewhere_keeps_its_door(tmp_path: Path) -> None:
    path = tmp_path / "control"
    first = ControlSocket(path)
    with pytest.raises(Locked, match="another daemon of this user listens"):
        ControlSocket(path)
    thread = threading.Thread(target=first.serve_one, args=(dict,))  # of whoever looked
    thread.start()
    thread.join()
    thread = answering(first)
    assert ask(path, {"verb": "status"}) == {"heard": {"verb": "status"}}
    thread.join()
    first._socket.close()  # as by a kill: its file stays
    ControlSocket(path).close()


def test_no_place_for_the_door() -> None:
    with pytest.raises(StorageFailed, match="cannot create"):
        ControlSocket(Path("/proc/envsync/control"))
