"""Formats rows as an aligned table for people, and as one JSON document for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.figures import Measured, Row

_HEAD = ("row", "envsync", "", "peer", "", "", "ratio", "bar", "")
_RIGHT = {1, 4, 6}
_MET = {True: "met", False: "MISSED", None: ""}


def table(rows: Sequence[Row]) -> str:
    """Return a table of medians with (lowest..highest); ratios are those of the medians."""
    lines = [_HEAD, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEAD))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column in _RIGHT else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _cells(row: Row) -> tuple[str, ...]:
    peer = ("", "", "") if row.peer is None else (row.peer.name, *_figure(row.peer))
    found = "" if row.ratio is None else f"{row.ratio:.2f}x"
    bar = "" if row.bar is None else str(row.bar)
    return (row.name, *_figure(row.ours), *peer, found, bar, _MET[row.is_met])


def _figure(measured: Measured) -> tuple[str, str]:
    digits = 0 if measured.unit == "MB" and measured.median >= 10 else 2
    low, high = min(measured.values), max(measured.values)
    spread = f"({low:.{digits}f}..{high:.{digits}f})" if len(measured.values) > 1 else ""
    return f"{measured.median:.{digits}f} {measured.unit}", spread


def steps(rows: Sequence[Row]) -> str:
    """Return the seconds of each step of each row's pushes."""
    lines = []
    for row in rows:
        found = row.ours.medians_of("step_seconds")
        shown = "  ".join(f"{name} {seconds:.2f}" for name, seconds in found.items())
        lines += [f"{row.name}: {shown}"] if shown else []
    return "\n".join(lines)


def cpu(rows: Sequence[Row]) -> str:
    """Return each end's CPU seconds, which a busy machine distorts less than elapsed time."""
    lines = []
    for row in rows:
        sides = [row.ours] if row.peer is None else [row.ours, row.peer]
        spent = [side.medians_of("cpu_seconds") for side in sides]
        if not all(spent):
            continue
        shown = ", ".join(
            f"{side.name} {found['source']:.2f} + {found['target']:.2f}"
            for side, found in zip(sides, spent, strict=True)
        )
        lines.append(f"{row.name}: {shown}{_cpu_ratio(spent)}")
    return "\n".join(lines)


def network(rows: Sequence[Row]) -> str:
    """Return the MB over the target's interface, each way, with the overhead of ssh and TCP."""
    lines = []
    for row in rows:
        sides = [row.ours] if row.peer is None else [row.ours, row.peer]
        moved = [(side.name, side.medians_of("network_bytes")) for side in sides]
        shown = ", ".join(
            f"{name} {found['there'] / 1e6:.2f} + {found['back'] / 1e6:.2f}"
            for name, found in moved
            if found
        )
        lines += [f"{row.name}: {shown}"] if shown else []
    return "\n".join(lines)


def _cpu_ratio(spent: Sequence[dict[str, float]]) -> str:
    totals = [sum(found.values()) for found in spent]
    return f" ({totals[0] / totals[1]:.2f}x)" if len(totals) > 1 and totals[1] else ""


def notes(rows: Sequence[Row]) -> str:
    return "\n".join(f"{row.name}: {row.note}" for row in rows if row.note)


def document(rows: Sequence[Row], conditions: dict[str, Any]) -> dict[str, Any]:
    return {"schema": 1, "conditions": conditions, "rows": [_row(row) for row in rows]}


def _row(row: Row) -> dict[str, Any]:
    return {
        "name": row.name,
        "envsync": _measured(row.ours),
        "peer": None if row.peer is None else _measured(row.peer),
        "ratio": row.ratio,
        "bar": None if row.bar is None else str(row.bar),
        "met": row.is_met,
        "note": row.note,
    }


def _measured(measured: Measured) -> dict[str, Any]:
    return {
        "name": measured.name,
        "unit": measured.unit,
        "median": measured.median,
        "values": list(measured.values),
        "details": list(measured.details),
    }
