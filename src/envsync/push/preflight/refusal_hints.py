"""Completes the hint of a refused push with the commands that show why, or that insist."""

from __future__ import annotations

from collections.abc import Collection

from envsync.agent.wire.messages import TargetState
from envsync.errors import EnvsyncError
from envsync.hint_commands import command_line, published_diff
from envsync.push.ends.source import Source
from envsync.push.ends.target_end import TargetEnd
from envsync.push.preflight import preflight
from envsync.push.request.settings import PushSettings


class RefusalHints:
    """The hints of one push's refusals."""

    def __init__(self, settings: PushSettings, source: Source, target: TargetEnd) -> None:
        self._settings = settings
        self._source = source
        self._target = target

    def complete(
        self,
        error: EnvsyncError,
        target: TargetState | None = None,
        missing: Collection[str] = (),
    ) -> None:
        """Put whole commands into the error's hint: to show the difference, and to insist.

        `target` is its state at the refusal; None if that has changed since. The options to insist
        with are those that are `missing` and those that were given.
        """
        if error.leaves_open("see_difference"):
            error.fill(see_difference=see_difference(self._diff(target)))
        again = self._again()
        insist = self._options("--retry-held", missing)
        shrink = self._options("--allow-shrink", missing)
        error.fill(
            insist=f"insist: `{again} {insist}`" if again else f"insist with {insist}",
            overwrite=self._options("--overwrite", missing),
            allow_shrink=f"{again} {shrink}" if again else shrink,
        )

    def _options(self, own: str, missing: Collection[str]) -> str:
        """Return all options needed, so that the next try is not refused for want of another."""
        settings = self._settings
        given = {
            "--overwrite": settings.overwrite,
            "--allow-shrink": settings.allow_shrink,
            "--retry-held": settings.retry_held,
        }
        return " ".join(
            option for option in given if given[option] or option in missing or option == own
        )

    def _diff(self, target: TargetState | None) -> str:
        """Return the command that shows the difference; empty if none does.

        `diff` compares what this machine has with another server's, or the latter with what was
        published.
        """
        settings, name = self._settings, self._settings.name_there
        if target is None or not shows_source(target):
            return published_diff(name, self._target.server)
        if settings.archive or name != settings.environment:
            return ""
        is_source_here = self._source.is_here
        if is_source_here == self._target.is_here:
            return ""
        other = self._target.server if is_source_here else self._source.look.server
        return command_line("diff", name, other)

    def _again(self) -> str:
        """Return this push's command; empty for a pull, an archive, or a source elsewhere."""
        settings = self._settings
        is_from_here = settings.source.partition(":")[0] == settings.who.rpartition("@")[2]
        if settings.archive or not is_from_here:
            return ""
        renamed = "" if settings.name_there == settings.environment else settings.name_there
        there = ("--as", renamed) if renamed else ()
        return command_line("push", settings.environment, self._target.server, *there)


def shown_by(target: TargetEnd, state: TargetState) -> str:
    """Return the command that shows what was changed since the last publish; "" if none was."""
    return "" if state.record is None else published_diff(target.name, target.server)


def see_difference(shown_by: str) -> str:
    """Return the words of a hint that name the command showing what differs, or ""."""
    return f"see what differs with `{shown_by}`; " if shown_by else ""


def shows_source(target: TargetState) -> bool:
    """Return whether the difference is the source's version, and not a change by hand."""
    return target.record is None or not preflight.has_drifted(target)
