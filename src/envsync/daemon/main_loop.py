"""The daemon's loop: one thread that waits for everything, and does a little of it at a time."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from envsync.daemon import status
from envsync.daemon.assignments import Duties
from envsync.daemon.control import Door
from envsync.daemon.inventory_file import InventoryFile, OwnName
from envsync.daemon.log import Log
from envsync.daemon.paths import Places
from envsync.daemon.request_handler import Answers
from envsync.daemon.scheduler import Keeper
from envsync.daemon.store import Store
from envsync.daemon.sync_state import Book
from envsync.daemon.systemd.notify import Notifier
from envsync.daemon.tasks import Order
from envsync.daemon.watcher import INVENTORY, POLL_SECONDS, Watcher
from envsync.daemon.worker_process import Child

STOP_SECONDS = 6.0
STORE_RETRY_SECONDS = 30.0
WAKE_MAX_SECONDS = 60.0

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Setting:
    """What the daemon was started with.

    `own_name` gives this machine's name in an inventory, `argv` the command line of a child
    that carries out an order with the inventory at a path.
    """

    file: Path
    hostname: str
    own_name: OwnName
    argv: Callable[[Order, Path, str], list[str]]
    environ: Mapping[str, str]


class Service:
    """Make one, and `run` it. Raises what forbids it to start."""

    def __init__(self, setting: Setting, log: Log, notifier: Notifier) -> None:
        self._setting = setting
        self._log = log
        self._notifier = notifier
        self._places = Places.of(setting.environ, setting.hostname)
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._inventory = InventoryFile(
            setting.file,
            self._places.inventory,
            setting.hostname,
            setting.own_name,
            setting.environ,
            log,
        )
        self._stopping = False
        self._store_trouble = ""
        self._status = ""
        self._polled: dict[str, str] = {}
        self._started_seconds = time.time()
        self._polled_seconds = 0.0
        self._stored_seconds = 0.0

    def run(self) -> None:
        """Until SIGTERM or Ctrl-C."""
        lock = self._places.lock()
        try:
            self._begin()
            with self._signals():
                self._ready()
                while not self._stopping:
                    self._turn()
            self._end()
        finally:
            os.close(lock)

    def _begin(self) -> None:
        found = self._inventory.read()
        self._places.take_over(found.by_name)
        self._store = Store(self._places.database)
        self._store.put_about("inventory", str(self._setting.file))
        self._keeper = Keeper(Book(self._store, self._log), self._log, self._start)
        self._watcher = Watcher(self._wake)
        self._door = Door(self._places.socket)
        self._places.announce()
        self._selector.register(self._wake_read, selectors.EVENT_READ, self._woken)
        self._selector.register(self._door.fd, selectors.EVENT_READ, self._asked)
        self._answers = Answers(self._keeper, self._log, self.document)
        self._adopt(found)
        self._wake()  # what was adopted has never been looked at: the first turn comes at once

    def _adopt(self, found: Duties) -> None:
        """Watch first, and look then: what changes in between is told of."""
        self._watcher.watch(
            {name: duty.path for name, duty in found.by_name.items()}, str(self._setting.file)
        )
        self._keeper.adopt(found)
        self._tell_polled()

    def _ready(self) -> None:
        self._notifier.ready(self._sentence())
        found = self._keeper.book.duties
        nothing = "nothing: no environment here has `watch: true` and servers to `push_to:`"
        names = ", ".join(found.by_name) or nothing
        self._log.info(f"ready: {found.own} keeps in step {names}")

    # One turn

    def _turn(self) -> None:
        for key, _ in self._selector.select(self._wait_seconds()):
            key.data()
        if self._stopping:
            return  # to look at anything may take long, on a network filesystem
        now = time.monotonic()
        due = self._inventory.due_in_seconds()
        if due is not None and due <= 0:
            self._reload()
        self._watch(now)
        self._keeper.turn()
        self._mind_children()
        self._mind_store(now)
        self._notifier.watchdog()
        self._say_status()

    def _wait_seconds(self) -> float:
        until = [self._keeper.next_seconds(), WAKE_MAX_SECONDS]
        due = self._inventory.due_in_seconds()
        until += [] if due is None else [due]
        if self._watcher.polled():
            until.append(POLL_SECONDS)
        if self._notifier.watchdog_interval_seconds is not None:
            until.append(self._notifier.watchdog_interval_seconds / 3)
        return max(0.0, min(until))

    def _watch(self, now: float) -> None:
        if now - self._polled_seconds >= POLL_SECONDS:
            self._polled_seconds = now
            self._watcher.poll()
            self._inventory.look()
        told = self._watcher.collect()
        if INVENTORY in told:
            self._inventory.look()
        if told:
            self._watcher.refresh(told)
            self._keeper.hint(told)
            self._tell_polled()

    def _tell_polled(self) -> None:
        polled = self._watcher.polled()
        for name, why in polled.items():
            if self._polled.get(name) != why:
                text = f"looked at every {POLL_SECONDS:.0f} s: {why}"
                self._log.warning(text, environment=name or "the inventory")
        self._polled = polled

    def _mind_children(self) -> None:
        """Wait for those that are at work, and for no others."""
        children = self._keeper.children
        waited = {
            key.fd for key in self._selector.get_map().values() if key.fd not in self._own_fds()
        }
        for fd in waited - set(children):
            self._selector.unregister(fd)
        for fd in set(children) - waited:
            self._selector.register(fd, selectors.EVENT_READ, lambda fd=fd: self._hear(fd))

    def _own_fds(self) -> set[int]:
        return {self._wake_read, self._door.fd}

    def _hear(self, fd: int) -> None:
        child = self._keeper.children[fd]
        self._keeper.hear(fd)
        if child.is_over:
            self._selector.unregister(fd)

    def _start(self, order: Order) -> Child:
        argv = self._setting.argv(order, self._inventory.in_force, self._keeper.book.duties.own)
        return Child(argv, self._setting.environ)

    def _mind_store(self, now: float) -> None:
        trouble = self._store.trouble
        if trouble and now - self._stored_seconds >= STORE_RETRY_SECONDS:
            self._stored_seconds = now
            self._store.write_again()
            trouble = self._store.trouble
        for line in self._store.lost:
            self._log.warning(line)
        self._store.lost.clear()
        if trouble != self._store_trouble:
            text = f"what is known cannot be kept: {trouble}" if trouble else "it is kept again"
            self._log.warning(text)
            self._store_trouble = trouble

    def _say_status(self) -> None:
        sentence = self._sentence()
        if sentence != self._status:
            self._status = sentence
            self._notifier.status(sentence)

    def _sentence(self) -> str:
        return status.sentence(self._store.contents, self._inventory.error, self._keeper.busy())

    def _reload(self) -> None:
        """The file's new content, or the old one with a word about what is wrong."""
        self._notifier.reloading()
        found = self._inventory.read_again()
        if found is not None:
            self._adopt(found)
            names = ", ".join(found.by_name) or "nothing"
            self._log.info(f"the inventory was read: {names} kept in step")
        self._store.put_about("inventory_error", self._inventory.error)
        self._notifier.ready(self._sentence())

    def _asked(self) -> None:
        self._door.answer_one(self._answers.to)

    def document(self) -> dict[str, Any]:
        """Everything that `envsync status` shows."""
        return status.document(
            self._store.contents,
            self._keeper,
            status.About(
                pid=os.getpid(),
                since_seconds=self._started_seconds,
                inventory=str(self._setting.file),
                inventory_error=self._inventory.error,
                trouble=self._store.trouble,
                polled=self._polled,
            ),
        )

    # Signals and the end

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # full: it is going to wake up anyway
            os.write(self._wake_write, b"\0")

    def _woken(self) -> None:
        with contextlib.suppress(BlockingIOError):
            for number in os.read(self._wake_read, 4096):
                if number in (signal.SIGTERM, signal.SIGINT):
                    self._stopping = True
                elif number == signal.SIGHUP:
                    self._inventory.demand()

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        before = {number: signal.signal(number, lambda *_: None) for number in _SIGNALS}
        wakeup = signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)

    def _end(self) -> None:
        self._notifier.stopping()
        self._log.info("stopping")
        self._door.close()
        self._keeper.stop(STOP_SECONDS)
        self._watcher.close()
        self._store.close()
