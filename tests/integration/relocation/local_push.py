"""Pushes between two prefixes of this machine, both ends in this process."""

from __future__ import annotations

import contextlib
from pathlib import Path

from envsync.agent.server.helper_processes import NO_HELPERS
from envsync.push.ends.end import LocalEnd
from envsync.push.ends.local_source import open_local
from envsync.push.ends.target_end import TargetEnd, open_request
from envsync.push.packing.packed_source import packed_source
from envsync.push.request.places import Place
from envsync.push.request.settings import PushSettings
from envsync.push.steps.report import PushReport
from tests.support.one_push import one_push

NAME = "myenv"


def push(
    source: Path,
    target: Path,
    name_there: str = NAME,
    *,
    seen_at: Path | None = None,
    **changes: object,
) -> PushReport:
    """Push `myenv` from one prefix, or an `archive`, to another; raises what ends it.

    `seen_at` is where the target's prefix seems to be: nothing is relocated to the source's.
    """
    settings = PushSettings(
        environment=NAME,
        source=f"here:{source}",
        who="test",
        environment_there=name_there,
        **changes,  # type: ignore[arg-type]
    )
    (target / "envs").mkdir(parents=True, exist_ok=True)
    here = Place("here", str(source))
    if settings.archive:
        origin = packed_source(settings, here, NO_HELPERS)
    else:
        origin = open_local(here, NAME, settings.local)
    end = LocalEnd("there")
    there = TargetEnd(end, open_request(settings, str(target)))
    seen = origin.at(f"{seen_at or target}/envs/{name_there}")
    # As a command does: what is hashed is searched on the way.
    seen.look.relocates_to = seen.target_path
    try:
        return one_push(settings, seen, there, no_reopening)
    finally:
        end.service.target.lock.release()
        origin.close()


def no_reopening() -> contextlib.AbstractContextManager[TargetEnd]:
    raise AssertionError("nothing was lost")
