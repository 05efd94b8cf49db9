"""One run of the command: its common options, and its result."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from envsync.cli.output.terminal import Terminal
from envsync.hint_commands import json_with_config
from envsync.inventory import Inventory, find, load
from envsync.texts.redaction import redacted_json

if TYPE_CHECKING:
    import click

    from envsync.cli.invocation.site import Site

SCHEMA = 1


class Invocation:
    """One run. `result` is its part of the JSON document, also if an error ended the command.

    `umask` is the user's, for files that are not envsync's own. `shown_by` is the command that
    shows what became of a switch, set before one is asked for: a server that was asked switches,
    even if this command is stopped. `done_so_far` says how many of several servers a stopped
    command is done with.
    """

    def __init__(self, environ: Mapping[str, str], umask: int = 0o077) -> None:
        self.environ = environ
        self.umask = umask
        self.config: Path | None = None
        self.verbose = False
        self.json = False
        self.command = ""
        self.shown_by = ""
        self.done_so_far = ""
        self.result: dict[str, Any] | None = None

    @classmethod
    def of(cls, context: click.Context) -> Invocation:
        """Return the run that a command's context belongs to."""
        invocation = context.find_object(cls)
        assert invocation is not None
        return invocation

    @functools.cached_property
    def terminal(self) -> Terminal:
        return Terminal(
            sys.stdout, sys.stderr, self.environ, quiet=self.json, config=self.given_config
        )

    @property
    def given_config(self) -> str:
        """The inventory that `--config` named, or ""."""
        return "" if self.config is None else str(self.config)

    def inventory(self) -> Inventory:
        """Return the inventory; if no file is found, one that any host is in."""
        path = find(self.config, self.environ)
        return Inventory() if path is None else load(path)

    def site(self, as_name: str | None = None) -> Site:
        from envsync.cli.invocation.site import Site

        return Site.here(self.inventory(), as_name, self.environ)

    def print_document(self, exit_code: int, error: dict[str, Any] | None) -> None:
        """Print the one JSON document of a run, without credentials.

        Commands in it have the same `--config` as on a terminal. It is ASCII only, so that any byte
        of a path survives.
        """
        document = {
            "schema": SCHEMA,
            "command": self.command,
            "exit_code": exit_code,
            "error": error,
            "result": self.result,
        }
        shown = redacted_json(json_with_config(document, self.given_config))
        sys.stdout.write(json.dumps(shown, indent=2) + "\n")
