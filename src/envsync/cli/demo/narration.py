"""The demo's output: for each step a headline, the command line and the result."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import click

from envsync.cli.output.terminal import Terminal
from envsync.errors import EnvsyncError


class Narration:
    """Prints lines for a person, and collects the steps as values for `--json`."""

    def __init__(self, terminal: Terminal, *, is_coloured: bool) -> None:
        self._terminal = terminal
        self._is_bold = is_coloured and terminal.is_interactive
        self._alias = ""
        self._warned: set[str] = set()
        self.steps: list[dict[str, Any]] = []

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[dict[str, Any]]:
        """Narrate one step; an error that ends it names the step in its details.

        Values put into the dictionary become the step's in `--json`.
        """
        number = len(self.steps) + 1
        document: dict[str, Any] = {"title": title, "commands": [], "done": False}
        self.steps.append(document)
        self._terminal.say()
        if self._is_bold:
            click.secho(f"{number}  {title}", bold=True)
        else:
            self._terminal.say(f"{number}  {title}")
        started = time.monotonic()
        try:
            yield document
        except EnvsyncError as error:
            error.details = (*error.details, f"in step {number} of the demo: {title}")
            raise
        finally:
            document["seconds"] = round(time.monotonic() - started, 3)
        document["done"] = True

    def command(self, line: str) -> None:
        """Show the command line for what comes next."""
        self.steps[-1]["commands"].append(line)
        shown = line.replace(self._alias, "$D") if self._alias else line
        self._terminal.say(f"   $ {shown}")

    def call_it_d(self, path: str) -> None:
        """Show a long path as `$D` in the command lines from here on, as a shell would."""
        self.command(f"D={path}")
        self._alias = path

    def answer(self, document: dict[str, Any]) -> None:
        """Add the document of a command that was run with `--json`."""
        self.steps[-1].setdefault("answers", []).append(document)

    def say(self, line: str) -> None:
        """Show a line, but a warning only the first time: every push has the same ones."""
        if line.startswith("warning: "):
            warning = line.rpartition(": ")[2]  # without the server's name
            if warning in self._warned:
                return
            self._warned.add(warning)
        self._terminal.say(f"   {line}")
