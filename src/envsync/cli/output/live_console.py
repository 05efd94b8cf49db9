"""The console for progress lines: rich's, a little narrower than the terminal."""

from __future__ import annotations

from rich.console import Console, ConsoleOptions

CTRL_C_ROOM = len("^C" * 3)


class LiveConsole(Console):
    """Leaves room for the `^C` that a terminal writes at its cursor.

    Behind a line as wide as the screen, the `^C` would start another line, and the clean-up at the
    end would remove one line too few.
    """

    @property
    def options(self) -> ConsoleOptions:
        options = super().options
        return options.update_width(max(1, options.max_width - CTRL_C_ROOM))
