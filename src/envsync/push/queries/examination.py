"""Examines one server for `doctor`, from the first packet to the last environment."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from dataclasses import dataclass, replace

from envsync.agent.wire.server_operations import HEALTH, HELLO, AskEnvironments, HealthFacts
from envsync.errors import (
    AgentFailed,
    AuthenticationRefused,
    ConnectionFailed,
    ConnectionLost,
    EnvsyncError,
    HostKeyRefused,
)
from envsync.push.ends.end import End, LocalEnd, RemoteEnd
from envsync.push.request.places import HERE, Place
from envsync.ssh.session import Link, Reached

EXAMINATION_SECONDS = 120.0
"""The time limit of an examination: with a disk that hangs, an agent is silent but alive."""


@dataclass(frozen=True, slots=True)
class Examination:
    """What was found out about a server until it was done, or an `error` ended it.

    `connection` is how it was reached (`here` for this machine), empty if it was not. `reached` is
    where the link led, None if none was needed. `publishers` is the group that the inventory lets
    publish there, or empty. `is_reached` and `is_key_known` are None if the question did not arise.
    `noise` is what its login files print, and `python_failure` why the prefix's Python does not
    serve. `clock_off_seconds` is how far its clock is ahead of this machine's.
    """

    server: str
    prefix: str
    connection: str = ""
    connection_reason: str = ""
    reached: Reached | None = None
    publishers: str = ""
    is_reached: bool | None = None
    is_key_known: bool | None = None
    noise: bytes = b""
    python_failure: str = ""
    clock_off_seconds: float = 0.0
    health: HealthFacts | None = None
    error: EnvsyncError | None = None


def examine(place: Place, request: AskEnvironments, publishers: str = "") -> Examination:
    """Examine a place, with the local paths in `request`. Never raises an `EnvsyncError`."""
    examination = Examination(place.server, place.prefix, publishers=publishers)
    try:
        if place.open_link is None:
            return _here(replace(examination, connection=HERE, is_reached=True), request)
        return _over_link(examination, place.open_link, request)
    except EnvsyncError as error:
        error.server = place.server
        is_reached, is_key_known = _reach(error)
        return replace(examination, is_reached=is_reached, is_key_known=is_key_known, error=error)


def _here(examination: Examination, request: AskEnvironments) -> Examination:
    answered: Future[Examination] = Future()

    def ask() -> None:
        try:
            answered.set_result(_examined(examination, LocalEnd(examination.server), request))
        except BaseException as error:  # noqa: BLE001 - raised by whoever waits for the answer
            answered.set_exception(error)

    # Nothing wakes a thread that waits for a disk: it is left behind, also when the process ends.
    threading.Thread(target=ask, daemon=True).start()
    if not wait([answered], EXAMINATION_SECONDS).done:
        return replace(examination, error=_too_slow(examination))
    return answered.result()


def _over_link(
    examination: Examination, open_link: Callable[[], Link], request: AskEnvironments
) -> Examination:
    with contextlib.closing(open_link()) as link, _time_limit(link) as is_over:
        examination = replace(
            examination,
            connection=link.chosen.name,
            connection_reason=link.chosen.reason,
            reached=link.reached,
            is_reached=True,
            is_key_known=True,
        )
        try:
            with contextlib.closing(RemoteEnd(link, examination.prefix)) as end:
                greeted = replace(examination, noise=end.noise, python_failure=end.python_failure)
                return _examined(greeted, end, request)
        except EnvsyncError as error:
            return replace(examination, error=_too_slow(examination) if is_over.is_set() else error)


def _too_slow(examination: Examination) -> EnvsyncError:
    return AgentFailed(
        f"the examination did not finish within {EXAMINATION_SECONDS:.0f} s",
        hint=f"check there whether its disks respond: ls {examination.prefix}/envs",
        server=examination.server,
    )


@contextlib.contextmanager
def _time_limit(link: Link) -> Iterator[threading.Event]:
    """Close the link when the time is up; the event says that it was."""
    is_over = threading.Event()

    def end() -> None:
        is_over.set()
        link.close()

    timer = threading.Timer(EXAMINATION_SECONDS, end)
    timer.daemon = True
    timer.start()
    try:
        yield is_over
    finally:
        timer.cancel()


def _examined(examination: Examination, end: End, request: AskEnvironments) -> Examination:
    end.ask(HELLO, None)  # the delay until the first answer is not the clock's
    began = time.time()
    greeting = end.ask(HELLO, None)
    middle = (began + time.time()) / 2
    health = end.ask(HEALTH, request._replace(prefix=examination.prefix))
    off = greeting.time_seconds - middle
    return replace(examination, clock_off_seconds=off, health=health)


def _reach(error: EnvsyncError) -> tuple[bool | None, bool | None]:
    """Return whether the server answers and whether its key is known, when no link was made.

    None where that did not come to light: a jump host refused, or nothing was contacted.
    """
    if isinstance(error, ConnectionFailed):
        return (False if error.was_tried else None), None
    if isinstance(error, HostKeyRefused) and error.is_about_server:
        return True, False
    if isinstance(error, AuthenticationRefused) and error.is_about_server:
        return True, True
    if isinstance(error, ConnectionLost):
        return True, True
    return None, None
