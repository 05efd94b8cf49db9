"""Completes the hint of a refused push with the commands that show why, or that insist."""

from __future__ import annotations

from collections.abc import Collection

from envsync.agent.wire.messages import TargetState
from envsync.errors import EnvsyncError
from envsync.hint_commands import command_line, published_diff
from envsync.push.ends.both_ends import BothEnds
from envsync.push.ends.target_end import TargetEnd
from envsync.push.preflight import replacement
from envsync.push.request.method import AUTO
from envsync.push.request.settings import PushSettings


def complete(
    error: EnvsyncError,
    ends: BothEnds,
    state: TargetState | None = None,
    missing: Collection[str] = (),
) -> None:
    """Put whole commands into the error's hint: to show the difference, and to insist.

    `state` is the target's at the refusal; None if that has changed since. The options to insist
    with are those that are `missing` and those that were given.
    """
    again = _push_command(ends)
    insist = _options(ends.settings, "--retry-held", missing)
    shrink = _options(ends.settings, "--allow-shrink", missing)
    overwrite = _options(ends.settings, "--overwrite", missing)
    if again:
        error.fill(again=again)
    error.fill(
        see_difference=_see_difference(_diff(ends, state)),
        insist=f"insist: `{again} {insist}`" if again else f"insist with {insist}",
        overwrite=f"`{again} {overwrite}`" if again else overwrite,
        allow_shrink=f"{again} {shrink}" if again else shrink,
    )


def _options(settings: PushSettings, own: str, missing: Collection[str]) -> str:
    """Return all options needed, so that the next try is not refused for want of another."""
    given = {
        "--overwrite": settings.overwrite,
        "--allow-shrink": settings.allow_shrink,
        "--retry-held": settings.retry_held,
    }
    return " ".join(
        option for option in given if given[option] or option in missing or option == own
    )


def _diff(ends: BothEnds, state: TargetState | None) -> str:
    """Return the command that shows the difference; empty if none does.

    `diff` compares what this machine has with another server's, or the latter with what was
    published.
    """
    settings, source, target = ends
    name = settings.name_there
    if state is None or not shows_source(state):
        return published_diff(name, target.server)
    if settings.archive or source.is_here == target.is_here:
        return ""
    if source.is_here:
        here, server, there = settings.environment, target.server, name
    else:
        here, server, there = name, source.look.server, settings.environment
    return command_line("diff", here, server, *(() if here == there else ("--as", there)))


def _push_command(ends: BothEnds) -> str:
    """Return this push's command; empty for an archive."""
    settings, target = ends.settings, ends.target
    name, there = settings.environment, settings.name_there
    if settings.archive:
        return ""
    source = settings.source.partition(":")[0]
    is_from_here = source == settings.who.rpartition("@")[2]
    renamed = () if there == name else ("--as", there)
    options = (*renamed, *_method_options(settings))
    if target.is_here and not is_from_here and not options:
        return command_line("pull", name, source)
    from_there = () if is_from_here else ("--from", source)
    return command_line("push", name, target.server, *from_there, *options)


def _method_options(settings: PushSettings) -> tuple[str, ...]:
    """Return the options without which the environment would come there in another way."""
    options = ("--force-platform",) if settings.force_platform else ()
    if settings.from_history:
        return (*options, "--from-history")
    return options if settings.method == AUTO else (*options, "--method", settings.method)


def fill_difference(error: EnvsyncError, target: TargetEnd, state: TargetState) -> None:
    """Have the hint name the command that shows what was changed since the last publish."""
    shown_by = "" if state.record is None else published_diff(target.name, target.server)
    error.fill(see_difference=_see_difference(shown_by))


def _see_difference(shown_by: str) -> str:
    return f"see what differs with `{shown_by}`; " if shown_by else ""


def shows_source(target: TargetState) -> bool:
    """Return whether the difference is the source's version, and not a change by hand."""
    return target.record is None or not replacement.has_drifted(target)
