"""A push to one target, as a command with a single server makes it."""

from __future__ import annotations

from envsync.push.cycle import Push
from envsync.push.ends.both_ends import BothEnds
from envsync.push.ends.command_locks import CommandLocks
from envsync.push.ends.source import Source
from envsync.push.ends.target_end import TargetEnd
from envsync.push.request.settings import PushSettings
from envsync.push.steps.progress import OnProgress, ProgressTracker
from envsync.push.steps.report import PushReport
from envsync.push.switches.in_doubt import Reopen


def one_push(
    settings: PushSettings,
    source: Source,
    target: TargetEnd,
    reopen: Reopen,
    on_progress: OnProgress = lambda _: None,
) -> PushReport:
    """Push and report; `reopen` connects to the target again after an answer was lost."""
    ends = BothEnds(settings, source, target)
    progress = ProgressTracker(target.server, on_progress)
    return Push(ends, reopen, progress, CommandLocks(())).run()
