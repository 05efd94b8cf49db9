"""The database of what the daemon knows of each environment and server, which survives crashes.

It is a small SQLite database in the user's state directory. The copy in memory is authoritative:
if the database cannot be written (on a full disk), the service goes on and reports that.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from envsync.daemon.rows import LAGGING, PUSHING, Contents, ServerRow, SourceRow, together

_BUSY_SECONDS = 5.0

_TABLES = (
    "CREATE TABLE IF NOT EXISTS source (environment TEXT PRIMARY KEY, document TEXT NOT NULL)",
    """CREATE TABLE IF NOT EXISTS server (
        environment TEXT, server TEXT, document TEXT NOT NULL, PRIMARY KEY (environment, server)
    )""",
    "CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, document TEXT NOT NULL)",
)

_TROUBLES = (sqlite3.Error, ValueError, TypeError, KeyError)
"""Raised for a database that cannot be opened, or has contents that envsync did not write."""

_PUT_SOURCE = "INSERT OR REPLACE INTO source VALUES (?, ?)"
_PUT_SERVER = "INSERT OR REPLACE INTO server VALUES (?, ?, ?)"
_PUT_ABOUT = "INSERT OR REPLACE INTO about VALUES (?, ?)"


class Store:
    """The database, with its `contents` in memory.

    `trouble` says why not everything is written, until `write_again` succeeds. `lost` has a line
    for each part of the database that could not be read.
    """

    def __init__(self, file: Path) -> None:
        """Open the database, or create it.

        A damaged database is set aside and a new one created, because its contents can be found
        out again; a damaged row is skipped. If the database cannot be read now (it is locked, or
        the disk is full), the first `write_again` that can reads it. Nothing is written before
        that, so that pauses are not lost.
        """
        self._file = file
        self._connection: sqlite3.Connection | None = None
        self._is_read = False
        self.contents = Contents()
        self.trouble = ""
        self.lost: list[str] = []
        try:
            self._connected()
        except _TROUBLES as error:
            self._failed(error)

    def _connected(self) -> sqlite3.Connection:
        """Return the connection; the first one merges the database into `contents`."""
        if self._connection is None:
            kept = self._opened_or_new()
            if not self._is_read:
                self.contents = together(kept, self.contents)
                self._is_read = True
        assert self._connection is not None
        return self._connection

    def _opened_or_new(self) -> Contents:
        try:
            return self._opened()
        except sqlite3.OperationalError:
            raise
        except _TROUBLES:
            self.close()
            aside = self._file.with_suffix(".damaged")
            with contextlib.suppress(OSError):
                self._file.replace(aside)
            lost = "" if self._is_read else "; pauses are lost"
            self.lost = [f"{self._file} was damaged and is now {aside.name}{lost}"]
            return self._opened()

    def _opened(self) -> Contents:
        with contextlib.suppress(OSError):
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # A write is on disk before the next step begins, unless it is part of a `transaction`.
        connection = sqlite3.connect(
            self._file, timeout=_BUSY_SECONDS, isolation_level=None, cached_statements=8
        )
        self._connection = connection
        # With less, a deleted journal may reappear after a power cut and undo the last write.
        connection.execute("PRAGMA synchronous = EXTRA")
        for table in _TABLES:
            connection.execute(table)
        contents, unreadable = _contents(connection)
        self.lost += [f"{self._file}: the state of {what} is lost" for what in unreadable]
        return contents

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
        if self.contents.sources.get(row.environment) != row:
            self.contents.sources[row.environment] = row
            self._write(_PUT_SOURCE, (row.environment, _dumped(row)))

    def put_server(self, row: ServerRow) -> None:
        """Keep a row in place of the earlier one; written only if it differs."""
        if self.contents.servers.get((row.environment, row.server)) != row:
            self.contents.servers[row.environment, row.server] = row
            self._write(_PUT_SERVER, (row.environment, row.server, _dumped(row)))

    def put_about(self, name: str, value: Any) -> None:
        self.contents.about[name] = value
        self._write(_PUT_ABOUT, (name, json.dumps(value)))

    def drop_source(self, environment: str) -> None:
        self.contents.sources.pop(environment, None)
        self._write("DELETE FROM source WHERE environment = ?", (environment,))

    def drop_server(self, environment: str, server: str) -> None:
        self.contents.servers.pop((environment, server), None)
        self._write(
            "DELETE FROM server WHERE environment = ? AND server = ?", (environment, server)
        )

    def write_again(self) -> None:
        """Write everything again, in one transaction, after a write failed."""
        try:
            connection = self._connected()
            connection.execute("BEGIN IMMEDIATE")
            self._rewrite(connection)
            connection.execute("COMMIT")
            self.trouble = ""
        except _TROUBLES as error:
            self._failed(error)

    def _rewrite(self, connection: sqlite3.Connection) -> None:
        for table in ("source", "server", "about"):
            connection.execute(f"DELETE FROM {table}")  # noqa: S608 - names of our own
        for source in self.contents.sources.values():
            connection.execute(_PUT_SOURCE, (source.environment, _dumped(source)))
        for server in self.contents.servers.values():
            connection.execute(_PUT_SERVER, (server.environment, server.server, _dumped(server)))
        for name, value in self.contents.about.items():
            connection.execute(_PUT_ABOUT, (name, json.dumps(value)))

    def _write(self, statement: str, values: tuple[str, ...] = ()) -> None:
        if self.trouble:
            return  # `write_again` writes all rows; each try here might wait for a lock
        try:
            self._connected().execute(statement, values)
        except _TROUBLES as error:
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        """Note a failure; the next try opens the database anew, because it may be another one."""
        self.trouble = f"{self._file}: {error}"
        self.close()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def read(file: Path) -> Contents:
    """Return what a daemon has written, for other processes; empty if it cannot be read."""
    # Opened for writing all the same, so that SQLite can undo a write that was killed.
    if not file.exists():
        return Contents()
    try:
        with contextlib.closing(
            sqlite3.connect(f"{file.as_uri()}?mode=rw", uri=True, timeout=_BUSY_SECONDS)
        ) as connection:
            return _contents(connection)[0]
    except _TROUBLES:
        return Contents()


def _contents(connection: sqlite3.Connection) -> tuple[Contents, list[str]]:
    """Return what can be read, and the names of rows that cannot."""
    # As bytes, because damaged text would raise the same error as a full disk.
    connection.text_factory = bytes
    contents, unreadable = Contents(), list[str]()
    for name, document in connection.execute("SELECT environment, document FROM source"):
        if (source := _row(SourceRow, document)) is None:
            unreadable.append(_text(name))
        else:
            contents.sources[source.environment] = source
    for name, at, document in connection.execute(
        "SELECT environment, server, document FROM server"
    ):
        if (server := _row(ServerRow, document)) is None:
            unreadable.append(f"{_text(name)} on {_text(at)}")
        else:
            contents.servers[server.environment, server.server] = _resumed(server)
    for name, document in connection.execute("SELECT name, document FROM about"):
        with contextlib.suppress(ValueError):
            contents.about[_text(name)] = json.loads(document)
    return contents, unreadable


_Row = TypeVar("_Row", SourceRow, ServerRow)


def _row(kind: type[_Row], document: bytes) -> _Row | None:
    """Parse a row, ignoring fields of a newer envsync; None if it is malformed."""
    try:
        found = json.loads(document)
        fields: dict[str, Any] = {
            name: tuple(found[name]) if isinstance(found[name], list) else found[name]
            for name in kind.__dataclass_fields__
            if name in found
        }
        return kind(**fields)
    except (ValueError, TypeError):
        return None


def _text(name: bytes) -> str:
    return name.decode("utf-8", "replace")


def _resumed(row: ServerRow) -> ServerRow:
    """Return the row, due again if its push was under way when the daemon was killed."""
    return replace(row, state=LAGGING, next_try_seconds=None) if row.state == PUSHING else row


def _dumped(row: SourceRow | ServerRow) -> str:
    return json.dumps({name: getattr(row, name) for name in row.__dataclass_fields__})
