"""A terminal's screen that is redrawn without flicker, and restored at the end."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

from envsync.texts.redaction import escaped

if TYPE_CHECKING:
    from typing_extensions import Self

_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
_HOME, _CLEAR_LINE, _CLEAR_BELOW = "\x1b[H", "\x1b[K", "\x1b[J"


class Screen:
    """The alternate screen within the block; after it, the last lines stay in the normal one."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._shown: Sequence[str] = ()

    def __enter__(self) -> Self:
        self._write(_ENTER)
        return self

    def __exit__(self, *_: object) -> None:
        self._write(_LEAVE + "".join(f"{escaped(line)}\n" for line in self._shown))

    def show(self, lines: Sequence[str]) -> None:
        """Show these lines and nothing else, cut to the screen."""
        self._shown = lines
        columns, height = shutil.get_terminal_size()
        fitting = list(lines[:height])
        if len(lines) > height:
            fitting[-1] = f"... and {len(lines) - height + 1} more lines"
        drawn = f"{_CLEAR_LINE}\n".join(escaped(line)[:columns] for line in fitting)
        self._write(f"{_HOME}{drawn}{_CLEAR_LINE}{_CLEAR_BELOW}")

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
