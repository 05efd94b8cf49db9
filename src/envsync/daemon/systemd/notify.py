"""The protocol of sd_notify(3), with which a service reports to systemd, without libsystemd.

A message is one datagram of `NAME=value` lines to the socket that $NOTIFY_SOCKET names.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping

from envsync.texts.redaction import escaped, redacted

STATUS_BYTES_MAX = 500
"""`systemctl status` shows one line; a longer text only hides its beginning."""

_SEND_SECONDS = 2.0


class Notifier:
    """Sends one message to systemd with each call; does nothing without a socket or systemd.

    No call raises, because a service that cannot report its status has to go on working.
    """

    def __init__(self, address: str | None, watchdog_interval_seconds: float | None = None) -> None:
        """`address` is a datagram socket: a path, or `@NAME` for an abstract one."""
        self._address = address
        self.watchdog_interval_seconds = watchdog_interval_seconds
        """How long systemd waits for `watchdog` before it kills the service, None for no limit.

        Call `watchdog` at least twice in that time.
        """

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Notifier:
        """Return a notifier for $NOTIFY_SOCKET, and for a watchdog that is set for this process."""
        address = environ.get("NOTIFY_SOCKET", "")
        usable = address if address[:1] in ("/", "@") and len(address) > 1 else None
        return cls(usable, None if usable is None else _watchdog_seconds(environ))

    def ready(self, status: str = "") -> None:
        """Report that the start, or a reload, is complete."""
        self._send("READY=1", *_status_lines(status))

    def reloading(self) -> None:
        """Report that a reload begins; `ready` ends it."""
        microseconds = time.monotonic_ns() // 1000
        self._send("RELOADING=1", f"MONOTONIC_USEC={microseconds}")

    def status(self, text: str) -> None:
        """Set the sentence that `systemctl status` shows."""
        self._send(*_status_lines(text))

    def watchdog(self) -> None:
        """Report that the service is alive. Call it only from the loop that does the work."""
        self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """Report that the service is stopping."""
        self._send("STOPPING=1")

    def _send(self, *lines: str) -> None:
        if self._address is None or not lines:
            return
        address = os.fsencode(self._address)
        if address.startswith(b"@"):
            address = b"\0" + address[1:]
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer:
                peer.settimeout(_SEND_SECONDS)
                peer.sendto("\n".join(lines).encode(), address)
        except OSError:
            return  # systemd is gone or being replaced; the next message may arrive


def _status_lines(text: str) -> list[str]:
    """Return the STATUS= line, without control characters; none if the text is empty."""
    shown = escaped(" ".join(redacted(text).split()))
    cut = shown.encode("utf-8", "replace")[:STATUS_BYTES_MAX].decode("utf-8", "ignore")
    return [f"STATUS={cut}"] if cut else []


def _watchdog_seconds(environ: Mapping[str, str]) -> float | None:
    """Return the watchdog's interval; None if none is set, or it is for another process."""
    meant_for = environ.get("WATCHDOG_PID", "")
    if meant_for and meant_for != str(os.getpid()):
        return None
    try:
        microseconds = int(environ.get("WATCHDOG_USEC", ""))
    except ValueError:
        return None
    return microseconds / 1e6 if microseconds > 0 else None
