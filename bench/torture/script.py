"""Draws what a round does, from only the seed and the round's number, so it can be replayed."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

OPERATIONS: Mapping[str, float] = {
    "push": 22,
    "overwrite": 44,
    "rollback": 12,
    "rollback-overwrite": 6,
    "gc": 10,
    "gc-drifted": 3,
    "verify": 5,
}
SWITCHING = ("push", "overwrite", "rollback", "rollback-overwrite")
DRIFTS: Mapping[str, float] = {"edit": 1, "in-place": 1, "append": 1, "add": 1, "remove": 1}
LATE = "late"
"""The drift of a job that still runs in a replaced version and writes into it."""

PUSH_MOMENTS = (
    "build.stage",
    "copying",
    "receiving",
    "build.complete",
    "build.publish",
    "intent",
    "sync",
    "switch",
    "switched",
    "check",
    "record",
    "recorded",
)
ROLLBACK_MOMENTS = ("build.rollback", *PUSH_MOMENTS[PUSH_MOMENTS.index("intent") :])
NOTICED = {
    "push": PUSH_MOMENTS[: PUSH_MOMENTS.index("switch") + 1],
    "rollback": ("intent", "sync", "switch"),
}
"""Steps between the inspection of the target and its switch; a change there stops the command."""
MEDDLE = "meddle"
"""Used in place of a victim: a file is added to the live environment."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What is hit, and when: at a named step, or after that part of the usual duration."""

    victim: str
    moment: str
    part: float

    def __str__(self) -> str:
        when = self.moment or f"{self.part:.0%}"
        return f"{self.victim} at {when}"


@dataclass(frozen=True, slots=True)
class Round:
    """One operation and what happens before, during and after it."""

    seed: int
    number: int
    changes: bool
    drift: str
    operation: str
    transport: str
    retry_held: bool
    fault: Fault | None
    follow_up: bool

    @property
    def is_push(self) -> bool:
        return self.operation in ("push", "overwrite")

    @property
    def has_to_be_refused(self) -> bool:
        """Whether a file is added between the inspection of the target and its switch."""
        noticed = NOTICED["push" if self.is_push else "rollback"]
        fault = self.fault
        return fault is not None and fault.victim == MEDDLE and fault.moment in noticed

    def __str__(self) -> str:
        before = [name for name, has in (("change", self.changes), (self.drift, self.drift)) if has]
        options = f" by {self.transport}" if self.is_push else ""
        options += " retrying held" if self.is_push and self.retry_held else ""
        hit = "" if self.fault is None else f", {self.fault}"
        after = ", then a push" if self.follow_up else ""
        steps = "".join(f"{step}, " for step in before)
        return f"{self.seed}:{self.number}: {steps}{self.operation}{options}{hit}{after}"


def draw(seed: int, number: int) -> Round:
    """Return the round with that number, always the same for the same seed."""
    chance = random.Random(f"{seed}:{number}")
    operation = _one(chance, OPERATIONS)
    transport = _one(chance, {"stream": 7, "rsync": 2, "scp": 1})
    drift = ""
    if chance.random() < 0.13:
        drift = _one(chance, DRIFTS)
    elif chance.random() < 0.12:
        drift = LATE
    return Round(
        seed=seed,
        number=number,
        changes=chance.random() < 0.7,
        drift=drift,
        operation=operation,
        transport=transport,
        retry_held=chance.random() < 0.5,
        fault=_fault(chance, operation, transport),
        follow_up=chance.random() < 0.4,
    )


def _fault(chance: random.Random, operation: str, transport: str) -> Fault | None:
    roll = chance.random()
    if roll < 0.15:
        return None
    victims = {"command": 3.0, "agent": 3.0, "sshd": 2.0}
    if operation in SWITCHING:
        victims[MEDDLE] = 1.5
    by_rsync = operation in ("push", "overwrite") and transport == "rsync"
    if by_rsync:
        victims |= {"rsync here": 3.0, "rsync there": 3.0}
    victim = _one(chance, victims)
    moment, part = "", chance.random()
    if operation in SWITCHING and chance.random() < 0.45 and not victim.startswith("rsync"):
        moments = PUSH_MOMENTS if operation in ("push", "overwrite") else ROLLBACK_MOMENTS
        moment = chance.choice([name for name in moments if name != "receiving" or not by_rsync])
    return Fault(victim, moment, part)


def _one(chance: random.Random, weights: Mapping[str, float]) -> str:
    return chance.choices(list(weights), list(weights.values()))[0]
