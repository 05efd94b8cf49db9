"""Queries many servers at once; the failure of one does not affect the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from envsync.agent.server.disk_failures import failure_of
from envsync.errors import EnvsyncError
from envsync.push.ends.end import End, open_end
from envsync.push.request.places import Place
from envsync.push.server_pool import SERVERS_AT_ONCE, Answered, ServerPool

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Outcome(Generic[T]):
    """One server's answer: a value, or an error; both if the error is one that the value shows."""

    server: str
    value: T | None = None
    error: EnvsyncError | None = None

    def answer(self) -> T:
        """Return the value, or raise the error."""
        if self.error is not None:
            raise self.error
        assert self.value is not None
        return self.value

    def document(self) -> dict[str, object]:
        """Return the server and its error, with which every document begins."""
        return {
            "server": self.server,
            "error": None if self.error is None else self.error.to_json(),
        }


def for_each_server(
    places: Sequence[Place],
    ask: Callable[[End, Place], T],
    on_outcome: Callable[[Outcome[T]], None] = lambda _: None,
    *,
    at_once: int = SERVERS_AT_ONCE,
) -> list[Outcome[T]]:
    """Ask the end of every place; otherwise like `for_each_place`."""

    def visit(place: Place, answered: Answered) -> T:
        with open_end(place) as end:
            answered()  # from now on, it may be hashing a disk that others share
            return ask(end, place)

    return for_each_place(places, visit, on_outcome, at_once=at_once)


def for_each_place(
    places: Sequence[Place],
    visit: Callable[[Place, Answered], T],
    on_outcome: Callable[[Outcome[T]], None] = lambda _: None,
    *,
    at_once: int = SERVERS_AT_ONCE,
) -> list[Outcome[T]]:
    """Visit every place, and return the outcomes in the order of the places.

    `at_once` are visited at a time, and more if some are silent (see `push.server_pool`). A failure
    is an outcome, never raised; a bug is raised once the others are done. An interruption (Ctrl-C)
    does not wait for servers that do not answer.
    """

    def serve(place: Place, answered: Answered) -> Outcome[T]:
        outcome = _outcome(place, partial(visit, place, answered))
        on_outcome(outcome)
        return outcome

    pool = ServerPool(serve, places, at_once)
    try:
        pool.finish()
    except BaseException:
        pool.abandon()
        raise
    return pool.results()


def _outcome(place: Place, visit: Callable[[], T]) -> Outcome[T]:
    try:
        return Outcome(place.server, value=visit())
    except (EnvsyncError, OSError) as error:
        return Outcome(place.server, error=failure_of(error, place.server))
