"""`envsync status`: what the daemon keeps in step, and what it left alone."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

import click

from envsync.cli.invocation import Invocation
from envsync.cli.options import common_options
from envsync.cli.terminal import Terminal
from envsync.cli.wording import age, duration, moment

TITLES = ("ENVIRONMENT", "SERVER", "REVISION", "STATE", "SINCE", "NEXT TRY", "")
REFRESH_SECONDS = 1.0

Document = Mapping[str, Any]


@click.command(short_help="Show what the daemon keeps in step.")
@click.option("--watch", is_flag=True, help="Show it until Ctrl-C, anew each second.")
@common_options
@click.pass_obj
def status(invocation: Invocation, watch: bool) -> None:
    """Show each environment that the daemon keeps in step, on each of its servers.

    Without a daemon: what the last one knew.
    """
    if watch and invocation.terminal.is_interactive:
        _watch(invocation)
        return
    document = _document(invocation)
    invocation.result = dict(document)
    _show(invocation.terminal, document)


def _watch(invocation: Invocation) -> None:
    terminal = invocation.terminal
    while True:
        document = _document(invocation)
        terminal.clear()
        _show(terminal, document)
        time.sleep(REFRESH_SECONDS)


def _document(invocation: Invocation) -> Document:
    from envsync.daemon import state
    from envsync.daemon.control import ask
    from envsync.daemon.places import Places
    from envsync.daemon.status import About, document

    places = Places.of(invocation.environ)
    answer = ask(places.announced_socket(), {"verb": "status"})
    if answer is not None:
        found = answer["status"]
        assert isinstance(found, dict)
        return found
    contents = state.read(places.database)
    about = About(
        inventory=str(contents.about.get("inventory", "")),
        inventory_error=contents.about.get("inventory_error"),
    )
    return document(contents, None, about)


def _show(terminal: Terminal, document: Document) -> None:
    daemon, sources = document["daemon"], document["environments"]
    if not daemon["running"]:
        terminal.note("no daemon runs here; this is what the last one knew" if sources else
                      "no daemon runs here; start one: envsync daemon")  # fmt: skip
    elif not sources:
        terminal.note(f"it keeps nothing in step: {daemon['inventory']} has no environment with "
                      "`watch: true` whose source is this machine")  # fmt: skip
    rows = [row for source in sources for row in _rows(source)]
    if rows:
        terminal.table(TITLES, rows)
    for line in _troubles(document):
        terminal.warning(line)
    for line in dict.fromkeys(_hints(document)):
        terminal.note(line)


def _rows(source: Document) -> Iterator[tuple[str, ...]]:
    from envsync.tree.revision import short

    for server in source["servers"]:
        yield (
            source["environment"],
            server["server"],
            short(server["revision"]) or "-",
            server["state"],
            age(server["since_seconds"]),
            _next_try(server, source),
            _why(server),
        )


def _next_try(server: Document, source: Document) -> str:
    if source["paused"]:
        return "paused"
    when = server["next_try_seconds"]
    if server["state"] == "lagging" and source["activity"] != "at rest":
        return str(source["activity"])
    if when is None or server["state"] in ("in-step", "pushing"):
        return "-"
    seconds = when - time.time()
    return "now" if seconds <= 0 else f"in {duration(seconds)}"


def _why(server: Document) -> str:
    error = server["error"]
    return "" if error is None else str(error["message"])


def _troubles(document: Document) -> Iterator[str]:
    daemon = document["daemon"]
    refused = daemon["inventory_error"]
    if refused is not None:
        yield f"the inventory is refused, the old one is in force: {refused['message']}"
        yield from refused["details"]
    if daemon["trouble"]:
        yield f"what the daemon knows cannot be kept: {daemon['trouble']}"
    for source in document["environments"]:
        if source["error"] is not None:
            checked = source["checked_seconds"]
            last = f" (last at rest {moment(checked)})" if checked else ""
            yield f"{source['environment']}: {source['error']['message']}{last}"
            if source["error"]["hint"]:
                yield f"  → {source['error']['hint']}"
        if source["polled"]:
            yield f"{source['environment']} is looked at every 10 s: {source['polled']}"


def _hints(document: Document) -> Iterator[str]:
    """The way out, once for all servers that need it."""
    for source in document["environments"]:
        for server in source["servers"]:
            error = server["error"]
            if error is not None and server["state"] in ("halted", "held") and error["hint"]:
                yield f"{source['environment']} on {server['server']} → {error['hint']}"
