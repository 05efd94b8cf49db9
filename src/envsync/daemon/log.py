"""The daemon's log: entries with fields for the journal, or lines for people.

Under systemd each message goes to the journal by its native protocol, so that `journalctl
ENVSYNC_SERVER=server2` finds it. Otherwise it is a line with the time, and with the date unless
it goes to a terminal.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
from collections.abc import Callable, Mapping

from envsync.daemon.rows import ErrorFacts
from envsync.texts.redaction import escaped

ERROR, WARNING, NOTICE, INFO = 3, 4, 5, 6
"""Syslog's priorities."""

_JOURNAL = "/run/systemd/journal/socket"
_FIELDS = ("environment", "server", "revision", "code")


class Log:
    """The daemon's log. `say` prints a line for a person."""

    def __init__(self, say: Callable[[str], None], environ: Mapping[str, str]) -> None:
        self._say = say
        self._is_streamed = _is_streamed(environ)
        self._journal = _journal() if self._is_streamed else None
        self._time_format = "%H:%M:%S" if sys.stderr.isatty() else "%Y-%m-%d %H:%M:%S"

    def info(self, message: str, **fields: str) -> None:
        self._write(INFO, message, fields)

    def notice(self, message: str, **fields: str) -> None:
        self._write(NOTICE, message, fields)

    def warning(self, message: str, **fields: str) -> None:
        self._write(WARNING, message, fields)

    def error(self, message: str, **fields: str) -> None:
        self._write(ERROR, message, fields)

    def failure(self, error: ErrorFacts, priority: int = WARNING, **fields: str) -> None:
        """Log an error: its message and hint."""
        message = f"{error.message} -> {error.hint}" if error.hint else error.message
        self._write(priority, message, {**fields, "code": error.code})

    def close(self) -> None:
        if self._journal is not None:
            self._journal.close()

    def _write(self, priority: int, message: str, fields: Mapping[str, str]) -> None:
        named = {name: fields[name] for name in _FIELDS if fields.get(name)}
        about = " -> ".join(filter(None, (named.get("environment"), named.get("server"))))
        line = escaped(f"{about}: {message}" if about else message)
        if self._journal is not None:
            with contextlib.suppress(OSError):
                self._journal.send(entry(priority, line, named))
                return
        # Otherwise to stderr, where systemd reads the priority from a prefix.
        start = f"<{priority}>" if self._is_streamed else f"{time.strftime(self._time_format)} "
        self._say(start + line)


def entry(priority: int, message: str, fields: Mapping[str, str]) -> bytes:
    """Return one message in the journal's native protocol."""
    values = {
        "MESSAGE": message,
        "PRIORITY": str(priority),
        "SYSLOG_IDENTIFIER": "envsync",
        **{f"ENVSYNC_{name.upper()}": value for name, value in fields.items()},
    }
    return b"".join(_field(name, value) for name, value in values.items())


def _field(name: str, value: str) -> bytes:
    data = value.encode("utf-8", "backslashreplace")
    if b"\n" not in data:
        return name.encode() + b"=" + data + b"\n"
    return name.encode() + b"\n" + len(data).to_bytes(8, "little") + data + b"\n"


def _is_streamed(environ: Mapping[str, str]) -> bool:
    """Return whether systemd has connected stderr to the journal."""
    try:
        status = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def _journal() -> socket.socket | None:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        connection.connect(_JOURNAL)
        connection.setblocking(False)
    except OSError:
        connection.close()
        return None
    return connection
