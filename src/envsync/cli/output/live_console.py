"""Where lines move: rich's console, a little narrower than the terminal."""

from __future__ import annotations

from rich.console import Console, ConsoleOptions

CTRL_C_ROOM = len("^C" * 3)


class LiveConsole(Console):
    """Leaves room for the `^C` that a terminal writes wherever its cursor stands.

    Behind a line that is as wide as the screen it begins another, and what is taken away in the
    end would be one line too few.
    """

    @property
    def options(self) -> ConsoleOptions:
        found = super().options
        return found.update_width(max(1, found.max_width - CTRL_C_ROOM))
