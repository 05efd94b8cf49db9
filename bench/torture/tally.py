"""The counts of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Tally:
    """Counts of one lane. `failures` are sentences; a good run has none."""

    rounds: int = 0
    commands: Counter[str] = field(default_factory=Counter)
    endings: Counter[str] = field(default_factory=Counter)
    kills: Counter[str] = field(default_factory=Counter)
    phases: Counter[str] = field(default_factory=Counter)
    meddled: int = 0
    missed: int = 0
    drifts: int = 0
    samples: int = 0
    slow_samples: int = 0
    generations_checked: int = 0
    seconds: float = 0.0
    failures: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return {name: _plain(getattr(self, name)) for name in self.__slots__}


def _plain(value: object) -> object:
    return dict(value) if isinstance(value, Counter) else value


def total(documents: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the sum of several lanes' counts; the seconds are those of the slowest."""
    found = Tally()
    for document in documents:
        for name in ("commands", "endings", "kills", "phases"):
            getattr(found, name).update(document[name])
        for name in ("rounds", "meddled", "missed", "drifts", "samples", "slow_samples",
                     "generations_checked"):  # fmt: skip
            setattr(found, name, getattr(found, name) + document[name])
        found.failures += document["failures"]
        found.seconds = max(found.seconds, document["seconds"])
    return found.to_json()


def text(document: Mapping[str, Any]) -> str:
    """Return the counts as text for people."""

    def listed(name: str) -> str:
        return ", ".join(f"{key} {count}" for key, count in sorted(document[name].items()))

    kills = sum(document["kills"].values())
    commands = sum(document["commands"].values())
    lines = [
        f"{document['rounds']} rounds in {document['seconds']:.0f} s",
        f"commands: {commands}: {listed('commands')}",
        f"kills: {kills}: {listed('kills')}",
        f"  of those in a switch's command: {listed('phases')}",
        f"drifts: {document['drifts']}, and {document['meddled']} during a command",
        f"faults that came too late: {document['missed']}",
        f"endings: {listed('endings')}",
        f"samples: {document['samples']} ({document['slow_samples']} too slow to count)",
        f"generations rehashed: {document['generations_checked']}",
        f"failures: {len(document['failures'])}",
        *(f"  {failure}" for failure in document["failures"]),
    ]
    return "\n".join(lines)
