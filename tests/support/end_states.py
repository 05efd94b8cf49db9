"""What both ends report before a push, as far as their platforms matter."""

from __future__ import annotations

from envsync.agent.wire.messages import SourceState, TargetState
from envsync.conda.platform_needs import Platform
from envsync.tree.manifest import Totals

NOTHING = Totals(0, 0, 0)
HERE = Platform("Linux", "x86_64", "glibc", "2.36")


def source() -> SourceState:
    return SourceState("/w/envs/my", NOTHING, (), HERE, "r", "r", "r")


def target(platform: Platform) -> TargetState:
    facts = dict.fromkeys(TargetState._fields, "")
    lists: dict[str, object] = {
        "generations": (),
        "findings": (),
        "held": {},
        "totals": NOTHING,
        "record": None,
        "removal": None,
    }
    return TargetState(**{**facts, **lists, "platform": platform, "exists": False})  # type: ignore[arg-type]
