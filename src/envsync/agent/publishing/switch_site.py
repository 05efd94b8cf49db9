"""What switches and removals of one environment work on."""

from __future__ import annotations

from typing import NamedTuple

from envsync.agent.places.layout import Layout
from envsync.agent.places.locks import PushLock
from envsync.agent.places.records import Records
from envsync.agent.server.progress import OnStep
from envsync.agent.trees.trees import Trees


class SwitchSite(NamedTuple):
    """One environment on this server. Whoever switches has to hold the push lock."""

    layout: Layout
    trees: Trees
    records: Records
    lock: PushLock
    on_step: OnStep
