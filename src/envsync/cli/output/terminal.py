"""Output for a person: lines on stdout, errors and warnings on stderr.

All text from elsewhere (paths, names, servers' messages) is escaped on the way: no server can move
the cursor, set a title or hide a line.
"""

from __future__ import annotations

import os
import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TextIO

import click

from envsync.errors import EnvsyncError, SomeServersFailed
from envsync.hint_commands import is_copied, with_config
from envsync.texts.redaction import escaped, redacted

if TYPE_CHECKING:
    from envsync.cli.output.alike import CommonError
    from envsync.cli.output.progress import LiveConsole

DETAILS_SHOWN = 50
LINE_CHARACTERS_MAX = 5000
_WIDE = 10_000
_COLUMNS_MIN = 30
_NO_BREAK = "\xa0"  # never in escaped text
_BEFORE_UNIT = re.compile(r"(?<=\d) (?=(?:B|[kMGTP]B|s|min|h)\b)")
"""The space between a number and its unit, which stay on one line."""


def _shortened(text: str) -> str:
    """Return escaped text, cut at a length that only text from a server can have.

    Credentials are removed first, because a cut in the middle of one would make it unrecognizable.
    """
    whole = redacted(text[: 2 * LINE_CHARACTERS_MAX])
    shown = escaped(whole[:LINE_CHARACTERS_MAX])
    return shown if len(text) <= LINE_CHARACTERS_MAX else f"{shown} ..."


class Terminal:
    """stdout and stderr of one run; a quiet one (`--json`) prints nothing.

    `config` is the inventory that `--config` named, or "". Commands in warnings and hints then
    have the same `--config`; in other lines, the caller sees to that with `copyable`.
    """

    def __init__(
        self,
        stdout: TextIO,
        stderr: TextIO,
        environ: Mapping[str, str],
        *,
        quiet: bool = False,
        config: str = "",
    ) -> None:
        self._stdout = stdout
        self._stderr = stderr
        self._environ = environ
        self._can_move = environ.get("TERM") != "dumb"
        self._has_colour = self._can_move and not environ.get("NO_COLOR")
        self._quiet = quiet
        self._config = config
        self._console: LiveConsole | None = None

    @property
    def is_interactive(self) -> bool:
        """Whether a person watches stdout, on a terminal whose lines can be rewritten."""
        return not self._quiet and self._can_move and self._stdout.isatty()

    @property
    def is_styled(self) -> bool:
        """Whether stdout is a terminal that shows bold letters and colours."""
        return self._has_colour and self._stdout.isatty()

    def say(self, line: str = "") -> None:
        """Print a line of the answer."""
        self._print(self._folded(escaped(line), self._stdout))

    def say_unfolded(self, line: str) -> None:
        """Print a line of the answer as it is in a file, because it is copied."""
        self._print(escaped(line))

    def _print(self, shown: str) -> None:
        if not self._quiet:
            if self._console is not None:
                self._console.print_above(shown)
                return
            self._stdout.write(shown + "\n")
            self._stdout.flush()

    def note(self, line: str) -> None:
        """Print a line that is not part of the answer."""
        if not self._quiet:
            self._stderr.write(self._folded(f"envsync: {escaped(line)}", self._stderr) + "\n")

    def warning(self, text: str) -> None:
        if not self._quiet:
            shown = escaped(self.copyable(text))
            shown = self._folded(f"warning: {shown}", self._stderr)
            head, rest = shown[: len("warning:")], shown[len("warning:") :]
            self._stderr.write(f"{self._styled(head, 'yellow')}{rest}\n")

    def hint(self, text: str) -> None:
        """Print what to do about what was told before it."""
        if text and not self._quiet:
            self._stderr.write(self._advice(f"→ {text}"))

    def _advice(self, line: str) -> str:
        """Return a line of advice, folded unless there is something in it to be copied."""
        shown = f"  {_shortened(self.copyable(line))}"
        return (shown if is_copied(line) else self._folded(shown, self._stderr)) + "\n"

    def copyable(self, line: str) -> str:
        """Return a line with the `--config` that was given in the commands that it shows."""
        return with_config(line, self._config)

    def errors(self, errors: Sequence[EnvsyncError]) -> None:
        """Print each distinct error once, with all the servers that it happened on.

        Errors are the same if they differ in nothing but the server's name. A hint that several
        errors have is printed once, after the last of them.
        """
        from envsync.cli.output.alike import grouped, solutions

        for distinct in grouped(errors):
            for alike in distinct:
                self._error(alike)
            hints = [hint for alike in distinct for hint in alike.hints]
            for line in () if self._quiet else solutions(hints):
                self._stderr.write(self._advice(line))

    def error(self, error: EnvsyncError) -> None:
        """Print `envsync: server2: what happened`, the details indented, and the hint."""
        self.errors([error])

    def raise_all(
        self, errors: Sequence[EnvsyncError], of: int, what: str = "servers failed"
    ) -> None:
        """Raise the error of the only server; of several, print each and raise one with the count.

        `of` is the number of servers, including those without an error.
        """
        if errors and of == 1:
            raise errors[0]
        if errors:
            self.errors(errors)
            raise SomeServersFailed(f"{len(errors)} of {of} {what}")

    def _error(self, error: CommonError) -> None:
        if self._quiet:
            return
        where = f"{escaped(error.where)}: " if error.where else ""
        message = self._folded(f"envsync: {where}{_shortened(error.message)}", self._stderr)
        head, rest = message[: len("envsync:")], message[len("envsync:") :]
        lines = [f"{self._styled(head, 'red')}{rest}"]
        lines += [
            self._folded(f"  {_shortened(detail)}", self._stderr)
            for detail in error.details[:DETAILS_SHOWN]
        ]
        if len(error.details) > DETAILS_SHOWN:
            more = len(error.details) - DETAILS_SHOWN
            lines.append(f"  and {more:,} more: all of them with --json")
        self._stderr.write("\n".join(lines) + "\n")

    def table(
        self,
        titles: Sequence[str],
        rows: Sequence[Sequence[str]],
        right: str = "",
        *,
        turns: bool = False,
        optional: str = "",
    ) -> None:
        """Print aligned columns; `Table.lines` says what is done where a terminal is too narrow."""
        if self._quiet:
            return
        from envsync.cli.output.table import Table

        cells = [[escaped(cell) for cell in row] for row in rows]
        table = Table(titles, cells, right, is_styled=self.is_styled)
        columns = self._columns(self._stdout)
        lines, left_out = table.lines(columns, turns=turns, optional=optional)
        if left_out:
            lines.append(self._folded(f"left out here: {', '.join(left_out)}", self._stdout))
        self.drawn(lines)

    def drawn(self, lines: Sequence[str]) -> None:
        """Print lines as they are: escaped and styled already, and not folded."""
        if not self._quiet:
            self._stdout.write("".join(f"{line}\n" for line in lines))
            self._stdout.flush()  # so that in a common file, later lines of stderr come after it

    def live_console(self) -> LiveConsole:
        """Return a console for progress lines on stdout; from now on, other lines go above them."""
        from envsync.cli.output.progress import LiveConsole

        self._console = LiveConsole(self._stdout, is_styled=self._has_colour)
        return self._console

    def _folded(self, text: str, stream: TextIO) -> str:
        """Return text wrapped between words for a terminal, its continuation lines indented."""
        columns = self._columns(stream)
        if len(text) <= columns:
            return text
        indent = " " * (len(text) - len(text.lstrip()) + 2)
        lines = textwrap.wrap(
            _BEFORE_UNIT.sub(_NO_BREAK, text),
            columns,
            subsequent_indent=indent,
            break_long_words=False,
            break_on_hyphens=False,
        )
        return "\n".join(lines).replace(_NO_BREAK, " ")

    def _columns(self, stream: TextIO) -> int:
        """Return the terminal's width; unlimited if this is none, or it is tiny or unknown."""
        if not stream.isatty():
            return _WIDE
        text = self._environ.get("COLUMNS", "")
        try:
            columns = int(text) if text.isdecimal() else os.get_terminal_size(stream.fileno())[0]
        except (OSError, ValueError):
            return _WIDE
        return columns if columns >= _COLUMNS_MIN else _WIDE

    def _styled(self, text: str, colour: str) -> str:
        if self._has_colour and self._stderr.isatty():
            return click.style(text, fg=colour)
        return text
