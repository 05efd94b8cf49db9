"""Parses what rsync prints while it sends: progress, and totals at the end."""

from __future__ import annotations

import re

_LINE_BYTES_MAX = 4096
# The text can come from another server, and int() raises for thousands of digits.
_PROGRESS = re.compile(rb"\s*(\d{1,18})\s+\d+%(?:[^(]*\(xfr#(\d{1,18}),)?")
_TOTAL = re.compile(rb"Total bytes (sent|received): (\d{1,18})")


class Output:
    """Parses the stdout of `--info=progress2,stats2`, in blocks of any size.

    `files` and `sent_bytes` are the files, and the bytes of content, sent so far.
    """

    def __init__(self) -> None:
        self._line = b""
        self.sent_bytes = 0
        self.files = 0
        self._totals: dict[bytes, int] = {}

    @property
    def wire_bytes(self) -> int | None:
        """The bytes that went through the connection; None until rsync has printed them."""
        return sum(self._totals.values()) if len(self._totals) == 2 else None

    def feed(self, data: bytes) -> int:
        """Parse more output; return the bytes of content sent since the last call."""
        before = self.sent_bytes
        *lines, rest = re.split(rb"[\r\n]", self._line + data)
        self._line = rest[-_LINE_BYTES_MAX:]
        for line in lines:
            if match := _PROGRESS.match(line):
                self.sent_bytes = max(self.sent_bytes, int(match[1]))
                self.files = max(self.files, int(match[2] or 0))
            elif match := _TOTAL.match(line):
                self._totals[match[1]] = int(match[2])
        return self.sent_bytes - before
