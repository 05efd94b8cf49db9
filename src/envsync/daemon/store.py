"""The database of what the daemon knows of each environment and server, which survives crashes.

It is a small SQLite database in the user's state directory. It is read once, at the start; from
then on, the copy in memory is authoritative: if the database cannot be written (on a full disk),
the service goes on and reports that.
"""

from __future__ import annotations

import contextlib
import json
import shlex
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from envsync.agent.wire.checked_json import to_json
from envsync.daemon.installer_runs import InstallerRun
from envsync.daemon.rows import (
    LAGGING,
    PUSHING,
    DaemonState,
    ErrorFacts,
    ServerRow,
    SourceRow,
)
from envsync.errors import StorageFailed, error_from_json

_BUSY_SECONDS = 5.0

_TABLE = """CREATE TABLE IF NOT EXISTS state (
    kind TEXT, environment TEXT, server TEXT, document TEXT NOT NULL,
    PRIMARY KEY (kind, environment, server)
)"""
_SOURCE, _SERVER, _INVENTORY = "source", "server", "inventory"
"""The kinds of rows. What a row is not about is empty: a source has no server."""

_PUT = "INSERT OR REPLACE INTO state VALUES (?, ?, ?, ?)"
_DROP = "DELETE FROM state WHERE kind = ? AND environment = ? AND server = ?"

_TROUBLES = (sqlite3.Error, ValueError, TypeError, KeyError)
"""Raised for a database that cannot be opened, or has contents that envsync did not write."""

_Result = TypeVar("_Result")


class Store:
    """The database, with the `state` of the daemon in memory.

    `trouble` says why not everything is written, until `write_again` succeeds. `lost` has a line
    for each part of the database that could not be read.
    """

    def __init__(self, file: Path) -> None:
        """Open the database, or create it.

        A damaged database is set aside and a new one created, because its contents can be found
        out again; a damaged row is skipped. Raises `StorageFailed` if the database cannot be read
        now (it is locked, or the disk is full): the pauses and half installs in it hold.
        """
        self._file = file
        self._connection: sqlite3.Connection | None = None
        self.trouble = ""
        self.lost: list[str] = []
        try:
            self.state = self._in_sound_database(self._read, "; pauses are lost")
        except _TROUBLES as error:
            self.close()
            raise StorageFailed(
                f"the daemon's state in {file} cannot be read: {error}",
                hint=f"end what holds it (fuser -v {shlex.quote(str(file))}), free some space on "
                "its disk, or let this user read it; if the disk fails, move it away, which loses "
                "the pauses; a service then starts again by itself",
            ) from error

    def _in_sound_database(self, do: Callable[[], _Result], lost: str = "") -> _Result:
        """Return what `do` returns; if the database is damaged, it is set aside, and `do` repeated.

        The line about that ends with what is `lost`.
        """
        try:
            return do()
        except sqlite3.OperationalError:
            raise
        except _TROUBLES:
            self.close()
            aside = self._file.with_suffix(".damaged")
            with contextlib.suppress(OSError):
                self._file.replace(aside)
            self.lost = [f"{self._file} was damaged and is now {aside.name}{lost}"]
            return do()

    def _open(self) -> sqlite3.Connection:
        with contextlib.suppress(OSError):
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # A write is on disk before the next step begins, unless it is part of a `transaction`.
        self._connection = connection = sqlite3.connect(
            self._file, timeout=_BUSY_SECONDS, isolation_level=None, cached_statements=8
        )
        # With less, a deleted journal may reappear after a power cut and undo the last write.
        connection.execute("PRAGMA synchronous = EXTRA")
        connection.execute(_TABLE)
        return connection

    def _read(self) -> DaemonState:
        state, unreadable = _state(self._open())
        self.lost += [f"{self._file}: the state of {name} is lost" for name in unreadable]
        return state

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Write what is put in the block at its end: each write alone waits for the disk."""
        if self._connection is not None and self._connection.in_transaction:
            yield
            return
        self._write("BEGIN")
        try:
            yield
        finally:
            self._write("COMMIT")

    def put_source(self, row: SourceRow) -> None:
        """Keep a row in place of the earlier one; written only if it differs."""
        if self.state.sources.get(row.environment) != row:
            self.state.sources[row.environment] = row
            self._write(_PUT, _values(row))

    def put_server(self, row: ServerRow) -> None:
        """Keep a row in place of the earlier one; written only if it differs."""
        if self.state.servers.get((row.environment, row.server)) != row:
            self.state.servers[row.environment, row.server] = row
            self._write(_PUT, _values(row))

    def put_inventory(self, path: str) -> None:
        self.state.inventory = path
        self._write(_PUT, _inventory_values(path))

    def drop_server(self, environment: str, server: str) -> None:
        self.state.servers.pop((environment, server), None)
        self._write(_DROP, (_SERVER, environment, server))

    def write_again(self) -> None:
        """Write everything again after a write failed, in a database opened anew.

        It may be another one: somebody has removed or replaced the file.
        """
        try:
            self._in_sound_database(self._write_all)
            self.trouble = ""
        except _TROUBLES as error:
            self._failed(error)

    def _write_all(self) -> None:
        connection = self._open()
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("DELETE FROM state")
        connection.executemany(_PUT, _all_values(self.state))
        connection.execute("COMMIT")

    def _write(self, statement: str, values: tuple[str, ...] = ()) -> None:
        if self._connection is None:
            return  # `write_again` writes all rows; each try here might wait for a lock
        try:
            self._connection.execute(statement, values)
        except _TROUBLES as error:
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        self.trouble = f"{self._file}: {error}"
        self.close()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def read(file: Path) -> DaemonState:
    """Return what a daemon has written, for other processes; empty if it cannot be read."""
    # Opened for writing all the same, so that SQLite can undo a write that was killed; but a
    # missing file is not created.
    try:
        with contextlib.closing(
            sqlite3.connect(f"{file.as_uri()}?mode=rw", uri=True, timeout=_BUSY_SECONDS)
        ) as connection:
            return _state(connection)[0]
    except _TROUBLES:
        return DaemonState()


_RUN_FIELDS = len(InstallerRun._fields)

_Values = tuple[str, str, str, str]


def _values(row: SourceRow | ServerRow) -> _Values:
    kind, server = (_SERVER, row.server) if isinstance(row, ServerRow) else (_SOURCE, "")
    document = {name: getattr(row, name) for name in row.__dataclass_fields__}
    document["error"] = to_json(row.error)
    return kind, row.environment, server, json.dumps(document)


def _inventory_values(path: str) -> _Values:
    return _INVENTORY, "", "", json.dumps(path)


def _all_values(state: DaemonState) -> list[_Values]:
    rows: list[SourceRow | ServerRow] = [*state.sources.values(), *state.servers.values()]
    return [*map(_values, rows), _inventory_values(state.inventory)]


def _state(connection: sqlite3.Connection) -> tuple[DaemonState, list[str]]:
    """Return what can be read, and the names of what cannot."""
    # As bytes, because damaged text would raise the same error as a full disk.
    connection.text_factory = bytes
    state, unreadable = DaemonState(), list[str]()
    for kind, *names, document in connection.execute("SELECT * FROM state"):
        try:
            _add(state, kind, json.loads(document))
        except (ValueError, TypeError):
            texts = [name.decode("utf-8", "replace") for name in names if name]
            unreadable.append(" on ".join(texts) or "the inventory")
    return state, unreadable


def _add(state: DaemonState, kind: bytes, document: Any) -> None:
    """Add a row to the state. Raises ValueError or TypeError if it is malformed."""
    if kind == _SOURCE.encode():
        source = _row(SourceRow, document)
        runs = tuple(InstallerRun._make(run[:_RUN_FIELDS]) for run in source.installers)
        source = replace(source, installers=runs)
        state.sources[source.environment] = source
    elif kind == _SERVER.encode():
        server = _row(ServerRow, document)
        if server.state == PUSHING:  # when the daemon was killed
            server = replace(server, state=LAGGING, next_try_seconds=None)
        state.servers[server.environment, server.server] = server
    elif kind == _INVENTORY.encode():
        state.inventory = str(document)


_Row = TypeVar("_Row", SourceRow, ServerRow)


def _row(row_type: type[_Row], document: dict[str, Any]) -> _Row:
    """Return a row, without the fields that only a newer envsync has."""
    fields: dict[str, Any] = {
        name: tuple(document[name]) if isinstance(document[name], list) else document[name]
        for name in row_type.__dataclass_fields__
        if name in document
    }
    if fields.get("error") is not None:
        fields["error"] = ErrorFacts.of(error_from_json(fields["error"]))
    return row_type(**fields)
