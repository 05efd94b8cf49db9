"""A click group that imports each of its commands only when it is run."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from envsync.inventory.names import suggestion

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


class LazyCommand(NamedTuple):
    """A command's place, as MODULE:NAME, and its line in the help; without one it is hidden."""

    where: str
    summary: str = ""


class LazyGroup(click.Group):
    """A group that knows its commands by name and imports the one that is run."""

    def __init__(self, *args: Any, entries: Mapping[str, LazyCommand], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.entries = entries

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return [name for name, entry in self.entries.items() if entry.summary]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        entry = self.entries.get(cmd_name)
        if entry is None:
            top = ctx.find_root().command
            if isinstance(top, LazyGroup) and cmd_name in top.entries:
                near = f"; did you mean 'envsync {cmd_name}'?"
            else:
                near = suggestion(cmd_name, self.list_commands(ctx))
            ctx.fail(f"no such command {cmd_name!r}{near}")
        module, _, name = entry.where.partition(":")
        command = getattr(importlib.import_module(module), name)
        assert isinstance(command, click.Command)
        command.short_help = entry.summary
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return what a shell offers at TAB, without importing each command for its summary."""
        from click.shell_completion import CompletionItem

        if incomplete.startswith("-"):
            return click.Command.shell_complete(self, ctx, incomplete)
        return [
            CompletionItem(name, help=self.entries[name].summary)
            for name in self.list_commands(ctx)
            if name.startswith(incomplete)
        ]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        names = self.list_commands(ctx)
        with formatter.section("Commands"):
            formatter.write_dl([(name, self.entries[name].summary) for name in names])
