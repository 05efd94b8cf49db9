"""The daemon's main loop: one thread that waits for all events."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import time
from functools import partial
from typing import Any

from envsync.daemon import status
from envsync.daemon.assignments import Assignments
from envsync.daemon.control import ControlSocket, require_unserved
from envsync.daemon.inventory_file import WatchedInventory
from envsync.daemon.log import Log
from envsync.daemon.paths import DaemonPaths, was_removed
from envsync.daemon.request_handler import RequestHandler
from envsync.daemon.scheduler import Scheduler
from envsync.daemon.settings import DaemonSettings
from envsync.daemon.store import Store
from envsync.daemon.systemd.notify import Notifier
from envsync.daemon.tasks import Task
from envsync.daemon.wakeup import Wakeup
from envsync.daemon.watcher import INVENTORY, POLL_SECONDS, Watcher
from envsync.daemon.worker_process import WorkerProcess
from envsync.errors import EnvsyncError, Locked

STOP_SECONDS = 6.0
STORE_RETRY_SECONDS = 30.0
WAKE_MAX_SECONDS = 60.0

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def run_daemon(settings: DaemonSettings, log: Log, notifier: Notifier) -> None:
    """Run until SIGTERM or Ctrl-C.

    Raises `EnvsyncError` if the daemon cannot start, and `Locked` if it has to stop because its
    lock was removed and another one was started.
    """
    with contextlib.ExitStack() as at_end:
        MainLoop(settings, log, notifier, at_end).run()


class MainLoop:
    def __init__(
        self, settings: DaemonSettings, log: Log, notifier: Notifier, at_end: contextlib.ExitStack
    ) -> None:
        """Set everything up; `at_end` gets what ends it. See `run_daemon` for what is raised."""
        self._settings = settings
        self._log = log
        self._notifier = notifier
        self._paths = DaemonPaths.of(settings.environ, settings.hostname)
        self._stopping = False
        self._store_trouble = ""
        self._status = ""
        self._polled: dict[str, str] = {}
        self._started_seconds = time.time()
        self._next_turn_seconds = 0.0
        self._polled_seconds = 0.0
        self._stored_seconds = 0.0

        if self._paths.running_pid() is None:
            # One whose lock was removed would stop for the lock of this one, which cannot listen.
            require_unserved(self._paths.socket)
        self._lock = self._paths.lock()  # first, because all else is for one daemon only
        at_end.callback(lambda: os.close(self._lock))
        self._inventory = WatchedInventory(settings, self._paths.inventory, log)
        assignments = self._inventory.read()
        self._store = Store(self._paths.database)
        at_end.callback(self._store.close)
        self._store.put_inventory(str(settings.file))
        self._selector = selectors.DefaultSelector()
        self._wakeup = Wakeup()
        self._selector.register(self._wakeup.fd, selectors.EVENT_READ, self._woken)
        self._watcher = Watcher(self._wakeup.wake)
        at_end.callback(self._watcher.close)
        self._scheduler = Scheduler(self._store, log, self._start, on_checked=notifier.watchdog)
        at_end.callback(self._scheduler.stop, STOP_SECONDS)
        self._request_handler = RequestHandler(self._scheduler, log, self.document)
        self._control_socket = self._listen()
        at_end.callback(self._stop_listening)
        self._adopt(assignments)
        at_end.callback(self._announce_end)

    def run(self) -> None:
        with self._wakeup.at_signals(_SIGNALS):
            self._announce_ready()
            while not self._stopping:
                self._turn()

    def _listen(self) -> ControlSocket:
        control_socket = ControlSocket(self._paths.socket)
        self._paths.announce()
        self._selector.register(control_socket.fd, selectors.EVENT_READ, self._serve_request)
        return control_socket

    def _stop_listening(self) -> None:
        if not self._control_socket.is_closed:
            self._selector.unregister(self._control_socket.fd)
            self._control_socket.close()

    def _adopt(self, assignments: Assignments) -> None:
        """Put assignments in force; watch before checking, so that no change in between is lost."""
        self._watcher.watch(
            {name: assignment.path for name, assignment in assignments.by_name.items()},
            str(self._settings.file),
        )
        self._scheduler.adopt(assignments)
        self._note_polled()

    def _announce_ready(self) -> None:
        self._notifier.ready(self._sentence())
        assignments = self._scheduler.sync_state.assignments
        nothing = "nothing: no environment here has `watch: true` and `push_to:`"
        names = ", ".join(assignments.by_name) or nothing
        self._log.info(f"ready: {assignments.own} keeps in step: {names}")

    def _announce_end(self) -> None:
        self._notifier.stopping()
        self._log.info("stopping")

    # One turn

    def _turn(self) -> None:
        for key, _ in self._selector.select(self._wait_seconds()):
            key.data()
        if self._stopping:
            return  # any look at a network filesystem can take long
        now = time.monotonic()
        if now >= self._inventory.due_seconds:
            self._reload()
        self._watch(now)
        self._next_turn_seconds = self._scheduler.turn()
        self._register_workers()
        self._retry_store(now)
        self._notifier.watchdog()
        self._notify_status()

    def _wait_seconds(self) -> float:
        due_seconds = min(self._next_turn_seconds, self._inventory.due_seconds)
        waits = [due_seconds - time.monotonic(), WAKE_MAX_SECONDS]
        if self._watcher.polled():
            waits.append(POLL_SECONDS)
        if self._store.trouble:
            waits.append(STORE_RETRY_SECONDS)
        if self._notifier.watchdog_interval_seconds is not None:
            waits.append(self._notifier.watchdog_interval_seconds / 3)
        return max(0.0, min(waits))

    def _watch(self, now: float) -> None:
        if now - self._polled_seconds >= POLL_SECONDS:
            self._polled_seconds = now
            self._watcher.poll()
            self._inventory.check()
            self._stay_known()
        hinted = self._watcher.collect()
        if INVENTORY in hinted:
            self._inventory.check()
        if hinted:
            self._watcher.refresh(hinted)
            self._scheduler.hint(hinted)
            self._note_polled()

    def _note_polled(self) -> None:
        polled = self._watcher.polled()
        self._scheduler.set_polled(polled.keys())
        for name, why in polled.items():
            if self._polled.get(name) != why:
                text = f"checked every {POLL_SECONDS:.0f} s: {why}"
                self._log.warning(text, environment=name or "the inventory")
        self._polled = polled

    def _register_workers(self) -> None:
        """Have the selector wait for the workers started since the last turn, too."""
        for fd in self._scheduler.processes.keys() - self._selector.get_map().keys():
            self._selector.register(fd, selectors.EVENT_READ, partial(self._read_worker, fd))

    def _read_worker(self, fd: int) -> None:
        process = self._scheduler.processes[fd]
        self._scheduler.read_worker(fd)
        if process.is_over:
            self._selector.unregister(fd)

    def _start(self, task: Task) -> WorkerProcess:
        own = self._scheduler.sync_state.assignments.own
        return WorkerProcess(task.argv(self._inventory.in_force(), own), self._settings.environ)

    def _retry_store(self, now: float) -> None:
        trouble = self._store.trouble
        if trouble and now - self._stored_seconds >= STORE_RETRY_SECONDS:
            self._stored_seconds = now
            self._store.write_again()
            trouble = self._store.trouble
        for line in self._store.lost:
            self._log.warning(line)
        self._store.lost.clear()
        if trouble != self._store_trouble:
            text = f"cannot save the state: {trouble}" if trouble else "the state is saved again"
            self._log.warning(text)
            self._store_trouble = trouble

    def _notify_status(self) -> None:
        sentence = self._sentence()
        if sentence != self._status:
            self._status = sentence
            self._notifier.status(sentence)

    def _sentence(self) -> str:
        shown = self._scheduler.sync_state.shown()
        return status.sentence(shown, self._scheduler.activities, self._inventory.error)

    def _reload(self) -> None:
        """Put the inventory's new content in force; if it is refused, keep the old one."""
        self._notifier.reloading()
        assignments = self._inventory.read_again()
        if assignments is not None:
            self._adopt(assignments)
            names = ", ".join(assignments.by_name) or "nothing"
            self._log.info(f"the inventory was read; kept in step: {names}")
        self._notifier.ready(self._sentence())

    def _stay_known(self) -> None:
        """Replace what others know the daemon by, if it was removed.

        As all in /run/user is with a user's last session, or the state directory by a person.
        Raises `Locked` if another daemon was started meanwhile.
        """
        try:
            if not self._paths.is_locked_by(self._lock):
                removed, self._lock = self._lock, self._paths.lock()
                os.close(removed)
            self._paths.announce()
        except Locked:
            raise  # two would push the same environments
        except (OSError, EnvsyncError):
            pass  # tried again with the next poll
        with contextlib.suppress(OSError, EnvsyncError):
            if was_removed(self._paths.socket):
                self._stop_listening()
                self._control_socket = self._listen()

    def _serve_request(self) -> None:
        self._control_socket.serve_one(self._request_handler.handle)

    def document(self) -> dict[str, Any]:
        """Return everything that `envsync status` shows."""
        return status.document(
            self._scheduler.sync_state.shown(),
            self._scheduler.activities,
            status.DaemonFacts(
                pid=os.getpid(),
                since_seconds=self._started_seconds,
                inventory=str(self._settings.file),
                inventory_error=self._inventory.error,
                trouble=self._store.trouble,
                polled=self._polled,
            ),
        )

    def _woken(self) -> None:
        for number in self._wakeup.signals():
            if number in (signal.SIGTERM, signal.SIGINT):
                self._stopping = True
            elif number == signal.SIGHUP:
                self._inventory.demand()
