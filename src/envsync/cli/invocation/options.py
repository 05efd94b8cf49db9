"""Options that several commands share; their values are kept in the `Invocation`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from envsync.cli.invocation.invocation import Invocation

F = TypeVar("F", bound=Callable[..., Any])


def common_options(command: F) -> F:
    """Add `-v`, `--json` and `--config`, which every command takes after its name as well."""
    return config_option(hidden=True)(verbose_option()(json_option()(command)))


def push_options(command: F, *, is_pull: bool = False) -> F:
    """Add the options that push, pull and unpack share; `PushOptions` has a field for each."""
    do, there = ("Pull", "here") if is_pull else ("Push", "there")
    at_most = "Receive at most" if is_pull else "Send each server at most"
    options = [
        click.option("-n", "--dry-run", is_flag=True, help="Only show what would be done."),
        click.option(
            "--overwrite",
            is_flag=True,
            help=f"Replace a version that was changed {there} or came from elsewhere; "
            "it is kept as a generation.",
        ),
        click.option(
            "--allow-shrink",
            is_flag=True,
            help=f"{do} even if the source looks ruined: files lost, emptied, or no packages.",
        ),
        click.option(
            "--retry-held", is_flag=True, help=f"{do} a version even if it is held {there}."
        ),
        click.option(
            "--limit",
            metavar="RATE",
            help=f"{at_most} this much a second: 200Mbit, 25MB.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def copy_options(command: F, *, is_pull: bool = False) -> F:
    """Add the options that push and pull share: `push_options` and more."""
    text = "Copy it even if the platforms differ; it may not run."
    force = click.option("--force-platform", is_flag=True, help=text)
    text = "Accepted for scripts; nothing is asked anyway."
    yes = click.option("-y", "--yes", is_flag=True, expose_value=False, help=text)
    return force(push_options(yes(command), is_pull=is_pull))


def pull_options(command: F) -> F:
    """Add the options that push and pull share, in the words of a pull: its target is here."""
    return copy_options(command, is_pull=True)


def config_option(*, hidden: bool = False) -> Callable[[F], F]:
    def keep(context: click.Context, _: click.Parameter, value: Path | None) -> None:
        if value == Path():  # as after `--config "$UNSET"`
            raise click.BadParameter("it names no file")
        if value is not None:
            Invocation.of(context).config = value

    return click.option(
        "--config",
        metavar="FILE",
        # Not checked by click, because the error is clearer where the file is opened.
        type=click.Path(readable=False, path_type=Path),
        expose_value=False,
        callback=keep,
        hidden=hidden,
        help="The inventory to use; see `envsync config path`.",
    )


def verbose_option() -> Callable[[F], F]:
    def keep(context: click.Context, _: click.Parameter, value: bool) -> None:
        if value:
            Invocation.of(context).verbose = True

    return click.option(
        "-v",
        "--verbose",
        is_flag=True,
        expose_value=False,
        callback=keep,
        help="Show more, where there is more: steps, reasons, all warnings.",
    )


def json_option(*, hidden: bool = False) -> Callable[[F], F]:
    def keep(context: click.Context, _: click.Parameter, value: bool) -> None:
        invocation = Invocation.of(context)
        invocation.command = context.command_path.partition(" ")[2]
        invocation.json = invocation.json or value

    return click.option(
        "--json",
        is_flag=True,
        expose_value=False,
        callback=keep,
        hidden=hidden,
        help="Print one JSON document instead (docs/json.md).",
    )
