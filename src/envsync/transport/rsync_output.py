"""Parses what rsync prints while it sends: progress, and figures in the end."""

from __future__ import annotations

import re

_LINE_BYTES_MAX = 4096
# Another server may tell it: Python refuses to read a number of thousands of digits.
_PROGRESS = re.compile(rb"\s*(\d{1,18})\s+\d+%(?:[^(]*\(xfr#(\d{1,18}),)?")
_TOTAL = re.compile(rb"Total bytes (sent|received): (\d{1,18})")


class Output:
    """Takes apart the stdout of `--info=progress2,stats2`, however it was cut.

    `files` are those that were sent so far.
    """

    def __init__(self) -> None:
        self._line = b""
        self._sent_bytes = 0
        self.files = 0
        self._totals: dict[bytes, int] = {}

    @property
    def wire_bytes(self) -> int | None:
        """What went through the connection; None where rsync has not said it."""
        return sum(self._totals.values()) if len(self._totals) == 2 else None

    def feed(self, data: bytes) -> int:
        """Bytes of content that were sent since the last call."""
        before = self._sent_bytes
        *lines, rest = re.split(rb"[\r\n]", self._line + data)
        self._line = rest[-_LINE_BYTES_MAX:]
        for line in lines:
            if found := _PROGRESS.match(line):
                self._sent_bytes = max(self._sent_bytes, int(found[1]))
                self.files = max(self.files, int(found[2] or 0))
            elif found := _TOTAL.match(line):
                self._totals[found[1]] = int(found[2])
        return self._sent_bytes - before
