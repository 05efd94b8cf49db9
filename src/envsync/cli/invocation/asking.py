"""Queries several servers at once, for the commands that do not push."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from envsync.agent.wire.figures import SIZES, OnFigure
from envsync.agent.wire.server_operations import AskEnvironments
from envsync.agent.wire.target_operations import OpenTarget, Requester
from envsync.cli.invocation.in_order import ServerDocument, servers_in
from envsync.cli.invocation.invocation import Invocation
from envsync.cli.invocation.site import Site
from envsync.cli.output.terminal import Terminal
from envsync.errors import EnvsyncError
from envsync.push.ends.end import End, open_end
from envsync.push.ends.target_end import TargetEnd
from envsync.push.queries.servers import Outcome, for_each_server
from envsync.push.request.places import Place
from envsync.push.steps.report import ServerProgress
from envsync.tree.local import DEFAULT_LOCAL

T = TypeVar("T")
Ask = Callable[[End, Place, OnFigure], T]


def ask_servers(
    invocation: Invocation,
    step: str,
    places: Sequence[Place],
    ask: Ask[T],
    document: Callable[[Outcome[T]], ServerDocument] | None = None,
    problem: Callable[[str, T], EnvsyncError | None] = lambda _server, _value: None,
) -> list[Outcome[T]]:
    """Return the outcomes in the order of the places, with a progress line for each on a terminal.

    `step` is one word for what the servers do. `problem` returns the error that a server's value
    shows. The result has the `document` of each outcome as soon as it is known.
    """
    known = None if document is None else servers_in(invocation, places, document)
    outcomes: dict[str, Outcome[T]] = {}
    with progress_lines(invocation.terminal, places) as (show, forget):

        def ask_one(end: End, place: Place) -> T:
            show(ServerProgress(place.server, step))

            def on_figure(figure: str, value: int) -> None:
                if figure in SIZES:
                    show(ServerProgress(place.server, step, value))

            return ask(end, place, on_figure)

        def on_outcome(outcome: Outcome[T]) -> None:
            if outcome.value is not None:
                outcome = replace(outcome, error=problem(outcome.server, outcome.value))
            outcomes[outcome.server] = outcome
            if known is not None:
                known.add(outcome.server, outcome)
            forget(outcome.server)

        for_each_server(places, ask_one, on_outcome)
    return [outcomes[place.server] for place in places]


@contextlib.contextmanager
def progress_lines(
    terminal: Terminal, places: Sequence[Place]
) -> Iterator[tuple[Callable[[ServerProgress], None], Callable[[str], None]]]:
    """Yield functions that show and remove a server's progress line, until the block ends."""
    if not terminal.is_interactive:
        yield lambda _: None, lambda _: None
        return
    from envsync.cli.output.progress import LiveProgress

    live = LiveProgress(terminal, "", [place.server for place in places])
    live.start()
    try:
        yield live.update, live.remove
    finally:
        live.stop()


def target_of(site: Site, environment: str, end: End, place: Place, command: str = "") -> TargetEnd:
    """Return the environment at a place as a `TargetEnd`; for `command`, see `CommandLocks`."""
    local: tuple[str, ...] | None = site.local(environment)
    if not site.inventory.lists(environment):
        local = None
    requester = Requester(site.who, command)
    return TargetEnd(end, OpenTarget(place.prefix, environment, local, requester))


def environments_at(site: Site, place: Place) -> AskEnvironments:
    """Return the request for all environments of a place, with their local paths."""
    local_of = {entry.name: entry.local for entry in site.inventory.environments}
    return AskEnvironments(place.prefix, DEFAULT_LOCAL, local_of)


@contextlib.contextmanager
def target_again(site: Site, environment: str, place: Place) -> Iterator[TargetEnd]:
    """Yield the environment over a new link, after the first one was lost; see `target_of`."""
    with open_end(place) as end:
        yield target_of(site, environment, end, place)


def raise_failures(terminal: Terminal, outcomes: Sequence[Outcome[Any]]) -> None:
    """Raise what went wrong, if anything; see `Terminal.raise_all`."""
    errors = [outcome.error for outcome in outcomes if outcome.error is not None]
    terminal.raise_all(errors, len(outcomes))
