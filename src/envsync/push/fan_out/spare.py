"""Makes spare trees on targets, for the next push to build on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from envsync.push.ends.end import End
from envsync.push.ends.target_end import TargetEnd
from envsync.push.queries.servers import Outcome, for_each_server
from envsync.push.request.places import Destination, Place
from envsync.push.request.settings import PushSettings


def make_spares(
    settings: PushSettings,
    destinations: Sequence[Destination],
    on_outcome: Callable[[Outcome[bool]], None] = lambda _: None,
) -> list[Outcome[bool]]:
    """Make a tree on each target for the next push; each outcome says whether one was made.

    A target that somebody pushes to, or that cannot be reached, is left alone; its outcome has the
    error.
    """
    return for_each_server(destinations, partial(_make_spare, settings), on_outcome)


def _make_spare(settings: PushSettings, end: End, place: Place) -> bool:
    name, local, who = settings.name_there, settings.local, settings.who
    return TargetEnd(end, place.prefix, name, local, who, keep=settings.keep).make_spare()
