"""Draws a table as lines of text that fit a width, if they can."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import click

_UNBOUNDED = 10_000


class Table:
    """Aligned columns of escaped text, never wrapped, as lines for `grep` and `awk`.

    Columns whose titles are in `right` are right-aligned.
    """

    def __init__(
        self,
        titles: Sequence[str],
        rows: Sequence[Sequence[str]],
        right: str = "",
        *,
        is_styled: bool = False,
    ) -> None:
        self._titles = titles
        self._rows = rows
        self._right = right
        self._is_styled = is_styled

    def lines(
        self, columns: int, *, turns: bool = False, optional: str = ""
    ) -> tuple[list[str], list[str]]:
        """Return the lines, and the titles that were left out so that they fit into `columns`.

        Where it is too narrow, the columns are set closer. If that is not enough, a table with
        `turns` has its titles at the left and its rows side by side, and others go without as many
        of the `optional` columns as necessary, in this order.
        """
        lines = self.drawn()
        if _width(lines) > columns:
            lines = self.drawn(gap=1)
        if turns and _width(lines) > columns:
            lines = self._turned(columns)
        left_out: list[str] = []
        for title in filter(self._titles.__contains__, optional.split()):
            if _width(lines) <= columns:
                break
            left_out.append(title)
            lines = self._without(left_out).drawn(gap=1)
        return lines, left_out

    def _without(self, left_out: Sequence[str]) -> Table:
        shown = [number for number, title in enumerate(self._titles) if title not in left_out]
        titles = [self._titles[number] for number in shown]
        rows = [[row[number] for number in shown] for row in self._rows]
        return Table(titles, rows, self._right, is_styled=self._is_styled)

    def _turned(self, columns: int) -> list[str]:
        """Return as many rows side by side as fit, and the others below."""
        lines: list[str] = []
        beside: list[Sequence[str]] = []
        room = 0
        for row in self._rows:
            width = 2 + max(map(len, row))
            if beside and room < width:
                lines += [*self._transposed(beside), ""]
                beside = []
            if not beside:
                room = columns - max(map(len, self._titles))
            beside.append(row)
            room -= width
        return [*lines, *self._transposed(beside)]

    def _transposed(self, rows: Sequence[Sequence[str]]) -> list[str]:
        """Return the rows as columns, without the lines in which every cell is `-`."""
        first, *others = zip(self._titles, *rows, strict=True)
        shown = [line for line in others if set(line[1:]) != {"-"}]
        return Table(first, shown, is_styled=self._is_styled).drawn()

    def drawn(self, gap: int = 2) -> list[str]:
        """Return the lines with columns this far apart, however wide they become."""
        from rich import table
        from rich.console import Console
        from rich.text import Text

        drawing = table.Table(box=None, pad_edge=False, header_style="bold", padding=(0, gap, 0, 0))
        for title in self._titles:
            justify: Literal["left", "right"] = (
                "right" if title and title in self._right else "left"
            )
            drawing.add_column(title, no_wrap=True, justify=justify)
        for row in self._rows:
            drawing.add_row(*map(Text, row))
        console = Console(
            width=_UNBOUNDED, force_terminal=self._is_styled, color_system=None, highlight=False
        )
        with console.capture() as captured:
            console.print(drawing)
        return [line.rstrip() for line in captured.get().splitlines()]


def _width(lines: Sequence[str]) -> int:
    """Return the visible width of the lines, without styling."""
    return max(len(click.unstyle(line)) for line in lines)
