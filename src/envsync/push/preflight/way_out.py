"""The command that gets a push on which was refused, put into its hint."""

from __future__ import annotations

import shlex

from envsync.agent.wire.messages import TargetState
from envsync.errors import INSIST
from envsync.push.ends.relocated_source import RelocatedSource
from envsync.push.ends.source_end import SourceEnd
from envsync.push.ends.target_end import TargetEnd
from envsync.push.order.settings import PushSettings
from envsync.push.preflight import preflight

SEE_WHAT_DIFFERS = "see what differs"


class WayOut:
    """Of one push."""

    def __init__(
        self, settings: PushSettings, source: SourceEnd | RelocatedSource, target: TargetEnd
    ) -> None:
        self._settings = settings
        self._source = source
        self._target = target

    def refused(self, hint: str, target: TargetState) -> str:
        """The hint of a refusal by preflight, with what shows the difference, if anything does."""
        general = f"{SEE_WHAT_DIFFERS} with `envsync diff`; "
        if general in hint:
            command = self._diff(target)
            shown = f"{SEE_WHAT_DIFFERS} with `{command}`; " if command else ""
            hint = hint.replace(general, shown)
        return self.insisting(hint)

    def insisting(self, hint: str) -> str:
        """The hint with the whole command where it only says that one may insist."""
        again = self._again()
        return hint.replace(INSIST, f"insist: `{again} --retry-held`") if again else hint

    def _diff(self, target: TargetState) -> str:
        """What shows the same difference; empty where no command does.

        It compares what this machine has with another server's, or that with what was published.
        """
        settings, name = self._settings, self._settings.name_there
        if not shows_source(target):
            return f"envsync diff {name} {shlex.quote(self._target.server)} --published"
        if settings.archive or name != settings.environment:
            return ""
        is_source_here = bool(self._source.path)
        if is_source_here == self._target.is_here:
            return ""
        other = self._target.server if is_source_here else self._source.server
        return f"envsync diff {name} {shlex.quote(other)}"

    def _again(self) -> str:
        """The command of this push; empty where it is a pull, an unpacking, or from elsewhere."""
        settings = self._settings
        is_from_here = settings.source.partition(":")[0] == settings.who.rpartition("@")[2]
        if settings.archive or not is_from_here:
            return ""
        renamed = "" if settings.name_there == settings.environment else settings.name_there
        there = f" --as {renamed}" if renamed else ""
        server = shlex.quote(self._target.server)
        return f"envsync push {settings.environment} {server}{there}"


def shows_source(target: TargetState) -> bool:
    """Whether it is the source's version that differs there, and not a hand's work."""
    return target.record is None or not preflight.has_drifted(target)
