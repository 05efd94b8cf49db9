"""What switches and removals of one environment work on."""

from __future__ import annotations

from typing import NamedTuple

from envsync.agent.places.local_environment import LocalEnvironment
from envsync.agent.places.locks import PushLock
from envsync.agent.server.progress import OnStep


class SwitchSite(NamedTuple):
    """One environment on this server. Whoever switches has to hold the push lock."""

    environment: LocalEnvironment
    lock: PushLock
    on_step: OnStep
