"""The main loop, turn by turn, without a signal and without a worker."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from envsync.daemon import control, main_loop
from envsync.daemon.log import Log
from envsync.daemon.main_loop import MainLoop, run_daemon
from envsync.daemon.paths import DaemonPaths
from envsync.daemon.settings import DaemonSettings
from envsync.daemon.systemd.notify import Notifier
from envsync.errors import Locked, StorageFailed


@pytest.fixture
def settings(tmp_path: Path) -> DaemonSettings:
    file = tmp_path / "envsync.yaml"
    file.write_text("prefix: /p\nservers:\n  server1: {}\n")
    environ = {"XDG_STATE_HOME": str(tmp_path / "state"), "XDG_RUNTIME_DIR": str(tmp_path / "run")}
    (tmp_path / "run").mkdir()
    return DaemonSettings(file, None, "server1", environ)


@pytest.fixture
def loop(settings: DaemonSettings) -> Iterator[MainLoop]:
    """One that has started."""
    with contextlib.ExitStack() as at_end:
        loop = MainLoop(settings, Log(lambda _: None, {}), Notifier(None), at_end)
        loop._turn()
        yield loop


@pytest.mark.parametrize("what", ["socket", "directory"])
def test_a_socket_that_was_removed_is_made_again(
    loop: MainLoop, settings: DaemonSettings, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """With the user's last session, systemd removes the runtime directory; a daemon in a tmux
    stays."""
    socket = DaemonPaths.of(settings.environ, settings.hostname).socket
    if what == "socket":
        socket.unlink()
    else:
        shutil.rmtree(socket.parent.parent)
    monkeypatch.setattr(main_loop, "POLL_SECONDS", 0.0)
    if what == "directory":
        socket.parent.parent.write_text("no directory can be made here now")
        loop._wakeup.wake()
        loop._turn()
        assert loop._control_socket.is_closed
        socket.parent.parent.unlink()
    loop._wakeup.wake()
    loop._turn()
    assert control._is_served(socket)
    loop._turn()  # answers nothing to the one who only looked


def test_a_socket_that_cannot_be_looked_for_stays(
    loop: MainLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a home that is closed for a while: on NFS, with a ticket that has expired; here of a
    name that no directory can have."""
    monkeypatch.setattr(main_loop, "POLL_SECONDS", 0.0)
    paths = loop._paths
    monkeypatch.setattr(loop, "_paths", replace(paths, runtime=paths.runtime / ("x" * 300)))
    loop._wakeup.wake()
    loop._turn()
    assert control._is_served(paths.socket)


@pytest.mark.parametrize("is_removed", [True, False])
def test_daemon_without_its_state_directory_stays_known_and_the_only_one(
    loop: MainLoop, settings: DaemonSettings, monkeypatch: pytest.MonkeyPatch, is_removed: bool
) -> None:
    """It was removed, or full when the address of an earlier daemon could not be replaced."""
    monkeypatch.setattr(main_loop, "POLL_SECONDS", 0.0)
    if is_removed:
        shutil.rmtree(loop._paths.state)
    else:
        replace(loop._paths, runtime=Path("/run/earlier")).announce()
    loop._wakeup.wake()
    loop._turn()
    elsewhere = {**settings.environ, "XDG_RUNTIME_DIR": "/"}
    client = DaemonPaths.of(elsewhere, settings.hostname)
    assert client.announced_socket() == loop._paths.socket
    assert client.running_pid() == os.getpid()
    with pytest.raises(Locked):
        client.lock()


def test_daemon_that_cannot_start_takes_no_lock_that_was_removed_from_one_that_runs(
    loop: MainLoop, settings: DaemonSettings
) -> None:
    """Otherwise both would end: the one that runs finds at its next look that it is replaced."""
    shutil.rmtree(loop._paths.state)
    with contextlib.ExitStack() as at_end, pytest.raises(Locked, match="listens at"):
        MainLoop(settings, Log(lambda _: None, {}), Notifier(None), at_end)
    assert not loop._paths.state.exists()


def test_daemon_stops_if_another_was_started_after_its_state_directory_was_removed(
    settings: DaemonSettings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(main_loop, "POLL_SECONDS", 0.0)
    paths = DaemonPaths.of(settings.environ, settings.hostname)
    newer = replace(paths, runtime=tmp_path / "other")
    locks: list[int] = []

    def start_newer(older: MainLoop) -> None:
        shutil.rmtree(newer.state)
        locks.append(newer.lock())
        newer.announce()
        older._wakeup.wake()

    monkeypatch.setattr(MainLoop, "_announce_ready", start_newer)
    with pytest.raises(Locked, match=r"is already running \(process"):
        run_daemon(settings, Log(lambda _: None, {}), Notifier(None))
    assert newer.announced_socket() == newer.socket
    os.close(locks[0])


def test_daemon_that_ends_with_a_bug_leaves_neither_socket_nor_lock(
    settings: DaemonSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    monkeypatch.delattr(MainLoop, "_turn")
    with pytest.raises(AttributeError):
        run_daemon(settings, Log(lines.append, {}), Notifier(None))
    paths = DaemonPaths.of(settings.environ, settings.hostname)
    assert "stopping" in lines[-1]
    assert not paths.socket.exists()
    assert paths.running_pid() is None


def test_daemon_that_cannot_read_its_state_ends_for_systemd_to_start_it_again(
    settings: DaemonSettings,
) -> None:
    paths = DaemonPaths.of(settings.environ, settings.hostname)
    paths.database.mkdir(parents=True)
    with pytest.raises(StorageFailed, match="unable to open") as refused:
        run_daemon(settings, Log(lambda _: None, {}), Notifier(None))
    assert "a service then starts again by itself" in refused.value.hint
    assert not paths.socket.exists()
    assert paths.running_pid() is None


def test_state_that_could_not_be_saved_is_tried_again_while_nothing_happens(
    loop: MainLoop,
) -> None:
    loop._store.trouble = "the disk is full"
    assert loop._wait_seconds() <= main_loop.STORE_RETRY_SECONDS
