"""Samples, ratios and bars: the measurements, and whether they suffice, as pure values."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Unit = Literal["s", "MB"]


@dataclass(frozen=True, slots=True)
class Sample:
    """One run: its wall time in seconds, and further measurements by name."""

    seconds: float
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Measured:
    """All runs of one contestant in one row; figures are in `unit`."""

    name: str
    values: tuple[float, ...]
    details: tuple[dict[str, Any], ...] = ()
    unit: Unit = "s"

    @classmethod
    def of(cls, name: str, samples: Sequence[Sample]) -> Measured:
        values = tuple(sample.seconds for sample in samples)
        return cls(name, values, tuple(sample.details for sample in samples))

    def sent(self) -> Measured:
        """Return these runs measured in MB over the network to the target."""
        values = tuple(details["network_bytes"]["there"] / 1e6 for details in self.details)
        return Measured(self.name, values, unit="MB")

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def medians_of(self, detail: str) -> dict[str, float]:
        """Return the medians of `step_seconds`, `cpu_seconds` or `network_bytes`, by name.

        Empty if no run has that detail.
        """
        told = [details[detail] for details in self.details if details.get(detail)]
        names = dict.fromkeys(name for figures in told for name in figures)
        return {
            name: statistics.median(figures[name] for figures in told if name in figures)
            for name in names
        }


@dataclass(frozen=True, slots=True)
class Bar:
    """The limit that a row has to reach.

    `at most` bounds envsync's time over the peer's, `times faster` demands the peer's over
    envsync's, and `below` bounds envsync's own figure, whatever the peer's.
    """

    kind: Literal["at most", "times faster", "below"]
    limit: float
    unit: Unit | Literal["x"] = "x"

    def figure(self, ours: Measured, peer: Measured | None) -> float | None:
        """Return the figure to compare with the limit; None if it needs a peer and has none."""
        if self.kind == "below":
            return ours.median
        return ratio(ours, peer, faster=self.kind == "times faster")

    def is_met(self, ours: Measured, peer: Measured | None) -> bool | None:
        figure = self.figure(ours, peer)
        if figure is None:
            return None
        return figure >= self.limit if self.kind == "times faster" else figure <= self.limit

    def __str__(self) -> str:
        sign = {"at most": "<=", "times faster": ">=", "below": "<"}[self.kind]
        space = "" if self.unit == "x" else " "
        return f"{sign} {self.limit:g}{space}{self.unit}"


def ratio(ours: Measured, peer: Measured | None, *, faster: bool = False) -> float | None:
    """Return the ratio of the medians: ours over the peer's, or reversed with `faster`.

    None without a peer, or if the divisor is 0.
    """
    if peer is None:
        return None
    above, below = (peer, ours) if faster else (ours, peer)
    return above.median / below.median if below.median else None


@dataclass(frozen=True, slots=True)
class Row:
    """One comparison; one without a bar is only for orientation."""

    name: str
    ours: Measured
    peer: Measured | None = None
    bar: Bar | None = None
    note: str = ""

    @property
    def is_met(self) -> bool | None:
        return None if self.bar is None else self.bar.is_met(self.ours, self.peer)

    @property
    def ratio(self) -> float | None:
        faster = self.bar is not None and self.bar.kind == "times faster"
        return ratio(self.ours, self.peer, faster=faster)
