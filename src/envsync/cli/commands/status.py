"""`envsync status`: the state of each environment that the daemon keeps in step."""

from __future__ import annotations

import contextlib
import shutil
import sys
import time

import click

from envsync.cli.invocation.invocation import Invocation
from envsync.cli.invocation.options import common_options
from envsync.cli.invocation.stop_signals import Stopped
from envsync.cli.output import status_view
from envsync.cli.output.screen import Screen
from envsync.cli.output.status_view import StatusDocument
from envsync.errors import InventoryError, listed
from envsync.hint_commands import json_with_config
from envsync.inventory import find

REFRESH_SECONDS = 1.0


@click.command()
@click.option(
    "--watch", is_flag=True, help="On a terminal, show it until Ctrl-C, updated each second."
)
@common_options
@click.pass_obj
def status(invocation: Invocation, watch: bool) -> None:
    """Show each environment that the daemon keeps in step, on each of its servers.

    If no daemon runs, show what the last one knew.
    """
    terminal = invocation.terminal
    if watch and terminal.is_interactive:
        _watch(invocation)
        return
    document = _document(invocation)
    invocation.result = dict(document)
    if terminal.is_interactive:
        terminal.drawn(_lines(invocation, document, is_styled=terminal.is_styled))
    else:
        _print(invocation, document)


def _watch(invocation: Invocation) -> None:
    try:
        with Screen(sys.stdout) as screen:
            while True:
                screen.show(_lines(invocation, _document(invocation), is_for_screen=True))
                time.sleep(REFRESH_SECONDS)
    except Stopped:
        raise
    except KeyboardInterrupt:
        pass  # Ctrl-C is the normal way to end this


def _document(invocation: Invocation) -> StatusDocument:
    """Return the document, its commands complete before a narrow screen has them folded.

    They have the daemon's inventory, whichever one this command would use.
    """
    known = _answered(invocation)
    config = _config_to_name(known["daemon"]["inventory"], invocation)
    complete: StatusDocument = json_with_config(known, config)
    return complete


def _config_to_name(of_daemon: str, invocation: Invocation) -> str:
    """Return the `--config` with which commands use the daemon's inventory; "" if they need none.

    Without it they would go to servers and prefixes of another inventory, or of none.
    """
    with contextlib.suppress(InventoryError):  # a file that is refused here is used by no command
        used = find(invocation.config, invocation.environ)
        if used is not None and str(used.absolute()) == of_daemon:
            return invocation.given_config
    return of_daemon


def _answered(invocation: Invocation) -> StatusDocument:
    import socket

    from envsync.daemon import store
    from envsync.daemon.control import ask_daemon
    from envsync.daemon.paths import DaemonPaths
    from envsync.daemon.status import DaemonFacts, document
    from envsync.daemon.systemd.known_units import service_trouble

    answer = ask_daemon(invocation.environ, {"verb": "status"})
    if answer is not None:
        known = answer["status"]
        assert isinstance(known, dict)
        known["daemon"].setdefault("version", None)  # an older daemon does not send it
        return known
    state = store.read(DaemonPaths.of(invocation.environ, socket.gethostname()).database)
    trouble = service_trouble(invocation.environ)
    facts = DaemonFacts(inventory=state.inventory, service_trouble=trouble)
    return document(state, {}, facts)


def _lines(
    invocation: Invocation,
    document: StatusDocument,
    *,
    is_styled: bool = False,
    is_for_screen: bool = False,
) -> list[str]:
    columns, height = shutil.get_terminal_size()
    return status_view.lines(
        document,
        columns,
        config=invocation.given_config,
        verbose=invocation.verbose,
        is_styled=is_styled,
        height=height if is_for_screen else None,
    )


def _print(invocation: Invocation, document: StatusDocument) -> None:
    """Print for a pipe: one line for each row, with the reason at its end; each hint once."""
    terminal = invocation.terminal
    for line in status_view.whereabouts(document, invocation.given_config):
        terminal.note(line)
    rows = status_view.rows(document)
    if rows:
        terminal.table((*status_view.TITLES, "REASON"), rows)
    alike: dict[str, dict[str, list[str]]] = {}
    for trouble in status_view.troubles(document):
        if not trouble.where:
            terminal.warning(trouble.message)
            terminal.hint(trouble.hint)
            continue
        for line in trouble.details if invocation.verbose else ():
            terminal.note(f"{trouble.where}: {line}")
        if trouble.hint:
            reasons = alike.setdefault(trouble.hint, {})
            reasons.setdefault(trouble.message, []).append(trouble.where)
    for note in status_view.notes(document) if invocation.verbose else ():
        terminal.note(f"{note.where}: {note.message}")
    for hint, reasons in alike.items():
        for message, places in reasons.items():
            terminal.note(f"{listed(places)}: {message}")
        terminal.hint(hint)
