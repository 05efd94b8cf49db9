"""Reads the inventory file, notices changes, and keeps a copy of the version in force."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path

from envsync.daemon.assignments import Assignments, find_assignments
from envsync.daemon.log import Log
from envsync.daemon.paths import was_removed
from envsync.daemon.rows import ErrorFacts
from envsync.daemon.settings import DaemonSettings
from envsync.errors import EnvsyncError, InventoryError
from envsync.files.whole import whole_file
from envsync.inventory import find, load_content, read

RELOAD_SETTLE_SECONDS = 0.3
"""An editor writes, renames and sets mtimes in turn; one reload follows them all."""


def required_file(given: Path | None, environ: Mapping[str, str]) -> Path:
    """Return the inventory's path, absolute; raises `InventoryError` if there is none."""
    file = find(given, environ)
    if file is None:
        raise InventoryError(
            "the daemon needs an inventory, and there is none",
            hint="name it: --config FILE; or write one (see config.example.yaml): "
            "`envsync config path` says where",
        )
    return file.absolute()


class WatchedInventory:
    """The inventory file, and the copy from which workers read the version in force.

    Workers read `copy`, because the file itself may be half edited.
    """

    def __init__(self, settings: DaemonSettings, copy: Path, log: Log) -> None:
        self.error: ErrorFacts | None = None
        """Why the file is refused in its present state; None if it is not."""
        self.due_seconds = math.inf
        """When to read it again, in monotonic seconds; infinite unless it has changed."""
        self._settings = settings
        self._copy = copy
        self._content = b""
        self._is_copied = False
        self._log = log
        self._read_signature: object = None

    def read(self) -> Assignments:
        """Read the file, and put it in force. Raises `EnvsyncError` if it is refused."""
        self._read_signature = self._signature()
        settings = self._settings
        content = read(settings.file)
        inventory = load_content(settings.file, content, settings.environ)
        own = inventory.own_name(settings.as_name, settings.environ, settings.hostname)
        assignments = find_assignments(inventory, own, settings.hostname)
        self._content = content
        self._write_copy()
        return assignments

    def in_force(self) -> Path:
        """Return the file that workers have to read: the copy, or the file if there can be none."""
        if self._is_copied and was_removed(self._copy):
            self._write_copy()
        return self._copy if self._is_copied else self._settings.file

    def read_again(self) -> Assignments | None:
        """Read the changed file; if it is refused, log why, keep the old one and return None."""
        self.due_seconds = math.inf
        try:
            assignments = self.read()
        except EnvsyncError as error:
            facts = ErrorFacts.of(error)
            if facts != self.error:
                self._log.error("the inventory is refused, the old one stays in use:")
                for line in (error.message, *error.details):
                    self._log.error(line)
            self.error = facts
            return None
        self.error = None
        return assignments

    # When to read it again

    def check(self) -> None:
        """Schedule a reload if the file has changed."""
        if self._signature() != self._read_signature:
            self.due_seconds = time.monotonic() + RELOAD_SETTLE_SECONDS

    def demand(self) -> None:
        """Schedule a reload at once, whether the file has changed or not."""
        self.due_seconds = time.monotonic()

    def _write_copy(self) -> None:
        self._is_copied = False
        try:
            self._copy.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with whole_file(str(self._copy), sync=True) as file:
                file.write(self._content)
        except OSError as error:
            self._log.warning(f"cannot save a copy of the inventory: {error}")
        else:
            self._is_copied = True

    def _signature(self) -> object:
        try:
            status = self._settings.file.stat()
        except OSError:
            return None
        return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
