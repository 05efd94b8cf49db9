"""The two ends of one push and its settings, which the steps of the push have in common."""

from __future__ import annotations

from typing import NamedTuple

from envsync.push.ends.source import Source
from envsync.push.ends.target_end import TargetEnd
from envsync.push.request.settings import PushSettings


class BothEnds(NamedTuple):
    """One push: what is asked for, where the environment comes from, and where it goes."""

    settings: PushSettings
    source: Source
    target: TargetEnd
