"""Watches directories for changes: by inotify where that works, else by polling.

A hint can be lost, late or wrong, so whoever gets one checks for itself. Events that inotify
loses (a full queue, a limit, a replaced directory) count as hints too.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

from envsync.agent.server.filesystem import mount_of
from envsync.daemon.watch_points import DirectoryId, existing, signature, watch_points

try:
    from watchdog.observers.inotify_c import (
        CallbackId,
        InotifyConstants,
        InotifyEvent,
        InotifyFD,
        Mask,
        WatchDescriptor,
    )
except ImportError:
    # Older versions than watchdog 7 do not report lost events; Python 3.10 has no watchdog 7.
    CAN_WATCH = False
else:
    CAN_WATCH = True

POLL_SECONDS = 10.0
"""The interval at which an environment is polled if inotify cannot watch it."""

INVENTORY = ""
"""The name under which the inventory's directory is watched."""

_IGNORED = frozenset({b"__pycache__"})
_LIMITS = {
    errno.ENOSPC: ("fs.inotify.max_user_watches", 524288),
    errno.EMFILE: ("fs.inotify.max_user_instances", 1024),
}


class _EventHandler:
    """Handles the events of one directory for one name, in watchdog's thread."""

    def __init__(self, hint: Callable[[], None], counts: Callable[[bytes], bool]) -> None:
        """`counts` says whether an entry of the directory matters."""
        self._hint = hint
        self._counts = counts

    def on_event(self, event: InotifyEvent) -> None:
        is_about_itself = event.is_delete_self or event.is_move_self
        if event.name not in _IGNORED and (is_about_itself or self._counts(event.name)):
            self._hint()

    def on_watch_deleted(self, wd: WatchDescriptor) -> None:  # noqa: ARG002
        self._hint()

    def on_queue_overflow(self) -> None:
        self._hint()


@dataclass(slots=True)
class _WatchSet:
    """What is watched for one name: directories with their watches, or polled signatures."""

    path: str
    watches: dict[str, tuple[DirectoryId, WatchDescriptor]] = field(default_factory=dict)
    signature: object = None
    polled_because: str = ""

    def is_outdated(self) -> bool:
        """Return whether a directory above those watched was moved or came back.

        That is an event in none of them.
        """
        watched = {path: identity for path, (identity, _) in self.watches.items()}
        return existing({os.path.dirname(self.path), *watched}) != watched


class Watcher:
    """Collects the names of environments in which something may have changed.

    `wake` is called when there is something to collect, from any thread.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._lock = threading.Lock()
        self._hinted: set[str] = set()
        self._watch_sets: dict[str, _WatchSet] = {}
        self._inotify: InotifyFD | None = None

    def watch(self, environments: dict[str, str], inventory: str) -> None:
        """Watch these environments (path by name) and the inventory's file, and nothing else."""
        paths = {**environments, INVENTORY: inventory}
        for name, watch_set in list(self._watch_sets.items()):
            if paths.get(name) != watch_set.path:
                self._drop(name, watch_set, list(watch_set.watches))
                del self._watch_sets[name]
        for name, path in paths.items():
            self._watch_sets.setdefault(name, _WatchSet(path))
        self.refresh(paths)

    def refresh(self, names: Iterable[str]) -> None:
        """Watch the directories that exist now, because some may have been replaced."""
        for name in names:
            if name in self._watch_sets:
                self._update(name, self._watch_sets[name])

    def collect(self) -> set[str]:
        """Return the names with hints since the last call; each has to be checked."""
        with self._lock:
            hinted, self._hinted = self._hinted, set()
        return hinted

    def poll(self) -> None:
        """Look for changes that inotify does not report. Call it every `POLL_SECONDS`."""
        if self._inotify is not None and not self._inotify.is_alive():
            self._restart()
        for name, watch_set in self._watch_sets.items():
            if watch_set.polled_because:
                self._update(name, watch_set)
                now = signature(self._directories(name, watch_set.path))
                if watch_set.signature is not None and now != watch_set.signature:
                    self._hint(name)
                watch_set.signature = now
            elif watch_set.is_outdated():
                self._hint(name)

    def polled(self) -> dict[str, str]:
        """Return why each polled environment is polled, by name."""
        return {
            name: watch_set.polled_because
            for name, watch_set in self._watch_sets.items()
            if watch_set.polled_because
        }

    def close(self) -> None:
        if self._inotify is not None:
            self._inotify.stop()
            self._inotify.join(2)
            self._inotify = None

    def _restart(self) -> None:
        """Start anew after watchdog's thread has died, which ended all watches."""
        self._inotify = None
        for name, watch_set in self._watch_sets.items():
            watch_set.watches.clear()
            self._hint(name)

    def _update(self, name: str, watch_set: _WatchSet) -> None:
        """Watch or poll the directories of one name.

        It looks twice, because a directory can appear between looking and watching.
        """
        for _ in range(2):
            directories = self._directories(name, watch_set.path)
            gone = [p for p, w in watch_set.watches.items() if directories.get(p) != w[0]]
            self._drop(name, watch_set, gone)
            watch_set.polled_because = self._network(directories) or self._add(
                name, watch_set, directories
            )
            if watch_set.polled_because:
                self._drop(name, watch_set, list(watch_set.watches))
                watch_set.signature = watch_set.signature or signature(directories)
                return
            watch_set.signature = None

    def _directories(self, name: str, path: str) -> dict[str, DirectoryId]:
        if name != INVENTORY:
            return watch_points(path)
        return existing(os.path.dirname(file) for file in (path, os.path.realpath(path)))

    @staticmethod
    def _network(directories: dict[str, DirectoryId]) -> str:
        for path in directories:
            mount = mount_of(os.fsencode(path))
            if mount.is_network:
                point = os.fsdecode(mount.mount_point)
                return f"{point} is {mount.kind}, which does not report remote changes"
        return ""

    def _add(self, name: str, watch_set: _WatchSet, directories: dict[str, DirectoryId]) -> str:
        """Watch directories that are not watched yet; return why one could not be, or ""."""
        if not CAN_WATCH:
            return "watchdog 7, which needs Python 3.11, is not installed"
        for path, identity in directories.items():
            if path in watch_set.watches:
                continue
            try:
                wd = self._instance().add_callback(
                    os.fsencode(path),
                    _mask(),
                    _EventHandler(
                        partial(self._hint, name), partial(_counts, name, watch_set.path, path)
                    ),
                    _identity(name, path),
                )
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.ENOTDIR):
                    continue  # it is gone already, which its parent's watch reports
                return _why(error)
            if wd == -1:
                return f"{path} is not readable"
            watch_set.watches[path] = (identity, wd)
        return ""

    def _instance(self) -> InotifyFD:
        if self._inotify is None:
            self._inotify = InotifyFD()
            self._inotify.start()
        return self._inotify

    def _drop(self, name: str, watch_set: _WatchSet, paths: Iterable[str]) -> None:
        for path in paths:
            _, wd = watch_set.watches.pop(path)
            if self._inotify is not None:
                self._inotify.remove_callbacks([(wd, _identity(name, path))])

    def _hint(self, name: str) -> None:
        with self._lock:
            is_news = name not in self._hinted
            self._hinted.add(name)
        if is_news:
            self._wake()


def _counts(name: str, path: str, directory: str, entry: bytes) -> bool:
    """Return whether an entry of a directory matters: beside `path`, others come and go.

    An inventory that is a link can have its file beside it, and another one later.
    """
    files = {path, os.path.realpath(path)} if name == INVENTORY else {path}
    beside = {os.path.basename(file) for file in files if os.path.dirname(file) == directory}
    return not beside or os.fsdecode(entry) in beside


def _mask() -> Mask:
    """Return the events that inotify has to report."""
    constants = InotifyConstants
    return Mask(
        constants.IN_CREATE
        | constants.IN_DELETE
        | constants.IN_MOVE
        | constants.IN_CLOSE_WRITE
        | constants.IN_ATTRIB
        | constants.IN_DELETE_SELF
        | constants.IN_MOVE_SELF
        | constants.IN_ONLYDIR
    )


def _identity(name: str, path: str) -> CallbackId:
    """Return an id for the callback of one name; two environments can share a directory."""
    return CallbackId(hash((name, path)))


def _why(error: OSError) -> str:
    limit = _LIMITS.get(error.errno or 0)
    if limit is None:
        return f"inotify: {error.strerror}"
    name, enough = limit
    return f"the limit {name} is reached; raise it: sudo sysctl {name}={enough}"
