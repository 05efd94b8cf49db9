"""What a service tells systemd about itself: the protocol of sd_notify(3), without libsystemd.

One datagram of `NAME=value` lines to the socket that $NOTIFY_SOCKET names.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping

from envsync.conda.credentials import redacted

STATUS_BYTES_MAX = 500
"""`systemctl status` shows one line of it; a longer one only hides its beginning."""

_SEND_SECONDS = 2.0


class Notifier:
    """Each call is one message; without a socket, and where systemd is gone, none does anything.

    Nothing here raises: a service that cannot tell how it is goes on with its work.
    """

    def __init__(self, address: str | None, watchdog_interval_seconds: float | None = None) -> None:
        """`address` is that of a datagram socket: a path, or `@NAME` for an abstract one."""
        self._address = address
        self._watchdog_interval_seconds = watchdog_interval_seconds

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Notifier:
        """As systemd set it up for this process; not meant for its children."""
        address = environ.get("NOTIFY_SOCKET", "")
        usable = address if address[:1] in ("/", "@") and len(address) > 1 else None
        return cls(usable, None if usable is None else _watchdog_seconds(environ))

    @property
    def watchdog_interval_seconds(self) -> float | None:
        """How long systemd waits for `watchdog` until it kills: call it twice as often.

        None where nobody waits.
        """
        return self._watchdog_interval_seconds

    def ready(self, status: str = "") -> None:
        """Started, or done with a reload."""
        self._send("READY=1", *_status_lines(status))

    def reloading(self) -> None:
        """A reload begins; `ready` says when it is over."""
        microseconds = time.monotonic_ns() // 1000
        self._send("RELOADING=1", f"MONOTONIC_USEC={microseconds}")

    def status(self, text: str) -> None:
        """What `systemctl status` shows: one useful sentence."""
        self._send(*_status_lines(text))

    def watchdog(self) -> None:
        """Still at work. To be called from the loop that does the work, and nowhere else."""
        self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """The end has begun."""
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
            return  # systemd is gone, or is being replaced: the next message may arrive


def _status_lines(text: str) -> list[str]:
    """STATUS= and the text on one line, without what a terminal would obey."""
    shown = " ".join(redacted(text).split())
    shown = "".join(letter if letter.isprintable() else "?" for letter in shown)
    cut = shown.encode("utf-8", "replace")[:STATUS_BYTES_MAX].decode("utf-8", "ignore")
    return [f"STATUS={cut}"] if cut else []


def _watchdog_seconds(environ: Mapping[str, str]) -> float | None:
    """None where no watchdog is set, or where it is meant for another process."""
    meant_for = environ.get("WATCHDOG_PID", "")
    if meant_for and meant_for != str(os.getpid()):
        return None
    try:
        microseconds = int(environ.get("WATCHDOG_USEC", ""))
    except ValueError:
        return None
    return microseconds / 1e6 if microseconds > 0 else None
