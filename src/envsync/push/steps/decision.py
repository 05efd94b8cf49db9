"""The values that the steps of a push hand on."""

from __future__ import annotations

from typing import NamedTuple

from envsync.agent.wire.messages import PlanFacts, SourceState, TargetState, TotalsFacts
from envsync.push.preflight import preflight
from envsync.push.request.method import REBUILD, Method, choose_method
from envsync.push.request.settings import PushSettings


class MethodChoice(NamedTuple):
    """The method, and the target with its platform: `insisted` says where a person
    decided that, against what was found there."""

    method: Method
    target: TargetState
    insisted: tuple[str, ...] = ()

    @property
    def is_rebuild(self) -> bool:
        """Whether nothing is sent but what the environment asks for."""
        return self.method.name == REBUILD


def method_for(settings: PushSettings, source: SourceState, target: TargetState) -> MethodChoice:
    """The method by which that source comes to that target."""
    insisted: tuple[str, ...] = ()
    if settings.force_platform:
        target, insisted = preflight.insisted(source, target)
    method = choose_method(settings.method, source.platform, target.platform)
    return MethodChoice(method, target, insisted)


class Decision(NamedTuple):
    """What preflight comes to. `source` is as it has to be there, `target` as it was found.

    `outcome` is what the push comes to if nothing fails: `in-step`, `planned` or `pushed`.
    """

    method: Method
    source: SourceState
    target: TargetState
    outcome: str

    @property
    def is_rebuild(self) -> bool:
        return self.method.name == REBUILD


class StagingResult(NamedTuple):
    """How the tree in staging was made: sent, or made there by `tool`, which has `totals` then
    and `changes` of its own."""

    plan: PlanFacts
    transport: str = ""
    transport_reason: str = ""
    agent_forwarded: bool = False
    totals: TotalsFacts | None = None
    tool: str = ""
    changes: tuple[str, ...] = ()
