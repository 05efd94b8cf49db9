"""Output streams whose own failures can be told from those of any other file."""

from __future__ import annotations

import errno
import io


class OutputFailed(OSError):
    """stdout or stderr cannot be written: its disk is full, its terminal or its reader has gone."""

    def __init__(self, error: OSError, *, was_terminal: bool) -> None:
        super().__init__(error.errno, error.strerror)
        self.is_hangup = was_terminal and error.errno == errno.EIO


class OutputStream(io.TextIOWrapper):
    """Takes the place of `stream`; raises `OutputFailed`, and can write any text."""

    def __init__(self, stream: io.TextIOWrapper) -> None:
        # It is not detached: click and `shutil` ask `sys.__stdout__` for the terminal's size.
        self._replaced = stream
        # One that has gone does not say so any more.
        self._was_terminal = stream.isatty()
        super().__init__(
            stream.buffer,
            encoding=stream.encoding,
            errors="backslashreplace",
            line_buffering=stream.line_buffering,
            write_through=stream.write_through,
        )

    def write(self, text: str, /) -> int:
        try:
            return super().write(text)
        except OSError as error:
            raise OutputFailed(error, was_terminal=self._was_terminal) from error

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            raise OutputFailed(error, was_terminal=self._was_terminal) from error
