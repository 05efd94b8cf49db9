"""The values that one step of a push hands to the next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from envsync.agent.wire.messages import PlanFacts, SourceState, TargetState
from envsync.push.preflight import preflight
from envsync.push.request.method import AUTO, REBUILD, Method, choose_method
from envsync.push.request.settings import PushSettings
from envsync.tree.manifest import Totals


@dataclass(frozen=True, slots=True)
class MethodChoice:
    """The method, and the target with its platform.

    `insisted` says where a person overruled the platform that was found.
    """

    method: Method
    target: TargetState
    insisted: tuple[str, ...] = ()


def method_for(settings: PushSettings, source: SourceState, target: TargetState) -> MethodChoice:
    """Return the method by which `source` comes to `target`."""
    insisted: tuple[str, ...] = ()
    if settings.force_platform and settings.method != REBUILD:
        target, insisted = preflight.insisted(source, target)
    method = choose_method(settings.method, source.platform, target.platform)
    if insisted and settings.method == AUTO:
        method = method._replace(reason="because of --force-platform")
    return MethodChoice(method, target, insisted)


@dataclass(frozen=True, slots=True)
class Decision:
    """The result of preflight. `source` is as it has to be on the target, `target` as it was found.

    `outcome` is the push's outcome if nothing fails: `in-step`, `planned` or `pushed`.
    """

    method: Method
    source: SourceState
    target: TargetState
    outcome: str


class StagingResult(NamedTuple):
    """How the staging tree was made: sent, or built on the target by `tool`.

    A built tree has `totals` and `changes` of its own.
    """

    plan: PlanFacts
    totals: Totals
    transport: str = ""
    transport_reason: str = ""
    agent_forwarded: bool = False
    tool: str = ""
    changes: tuple[str, ...] = ()
