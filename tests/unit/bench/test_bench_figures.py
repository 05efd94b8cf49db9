"""What a figure says is computed and shown right; nothing here takes any time."""

from __future__ import annotations

import argparse

import pytest

from bench import report
from bench.contestants import Contestant, alternate
from bench.figures import Bar, Measured, Row, Sample
from bench.memory import kilobytes
from bench.sizes import byte_count

OURS = Measured("envsync", (3.0, 1.0, 2.0))
PEER = Measured("rsync -a", (1.0, 8.0, 1.6))


@pytest.mark.parametrize(
    ("bar", "met"),
    [
        (Bar("at most", 1.3), True),
        (Bar("at most", 1.25), True),
        (Bar("at most", 1.2), False),
        (Bar("times faster", 0.8), True),
        (Bar("times faster", 0.81), False),
        (Bar("below", 2.1, "s"), True),
        (Bar("below", 0.2, "s"), False),
    ],
)
def test_medians_are_held_against_the_bar(bar: Bar, met: bool) -> None:
    row = Row("cold", OURS, PEER, bar)
    assert row.is_met is met
    assert row.ratio == pytest.approx(0.8 if bar.kind == "times faster" else 1.25)


def test_without_a_peer_no_ratio_is_met() -> None:
    assert Row("cold", OURS, None, Bar("at most", 1.3)).is_met is None
    assert Row("help", OURS, None, Bar("below", 5, "s")).is_met is True


def test_contestants_take_turns_and_slow_ones_run_less_often() -> None:
    ran: list[str] = []

    def contestant(name: str, repeat_max: int) -> Contestant:
        def run() -> Sample:
            ran.append(name)
            return Sample(len(ran))

        return Contestant(name, run, lambda: ran.append(f"prepare {name}"), repeat_max)

    fast, slow = alternate([contestant("a", 9), contestant("b", 1)], repeat=2)
    assert ran == ["prepare a", "a", "prepare b", "b", "prepare a", "a"]
    assert (fast.values, slow.values) == ((2, 6), (4,))


def test_step_medians_leave_out_runs_that_tell_none() -> None:
    samples = [
        Sample(1, {"step_seconds": {"connect": 1.0, "stage": 4.0}}),
        Sample(1, {"step_seconds": {"connect": 2.0}}),
        Sample(1),
    ]
    assert Measured.of("envsync", samples).medians_of("step_seconds") == {
        "connect": 1.5,
        "stage": 4.0,
    }


def test_the_table_is_aligned_and_names_what_missed_its_bar() -> None:
    rows = [
        Row("cold, unlimited", OURS, PEER, Bar("at most", 1.2)),
        Row("memory", Measured("envsync", (187.4,), unit="MB"), bar=Bar("below", 250, "MB")),
    ]
    head, cold, memory = report.table(rows).splitlines()
    assert cold.split()[2:] == (
        [
            "2.00",
            "s",
            "(1.00..3.00)",
            "rsync",
            "-a",
            "1.60",
            "s",
            "(1.00..8.00)",
            "1.25x",
            "<=",
            "1.2x",
            "MISSED",
        ]
    )
    assert memory.split() == ["memory", "187", "MB", "<", "250", "MB", "met"]
    assert head.index("bar") == cold.index("<=") == memory.index("<")


def test_processor_seconds_stand_side_by_side() -> None:
    def measured(name: str, source: float, target: float) -> Measured:
        return Measured.of(name, [Sample(1, {"cpu_seconds": {"source": source, "target": target}})])

    row = Row("cold", measured("envsync", 2, 1), measured("rsync -a", 1, 0.5))
    assert report.cpu([row]) == "cold: envsync 2.00 + 1.00, rsync -a 1.00 + 0.50 (2.00x)"
    assert report.cpu([Row("cold", OURS, PEER)]) == ""


def test_the_document_has_every_sample() -> None:
    document = report.document([Row("cold", OURS, PEER, Bar("at most", 1.3))], {"repeat": 3})
    [row] = document["rows"]
    assert row["envsync"]["values"] == [3.0, 1.0, 2.0]
    assert (row["ratio"], row["bar"], row["met"]) == (pytest.approx(1.25), "<= 1.3x", True)


@pytest.mark.parametrize(
    ("text", "size"), [("60", 60), ("800MB", 800_000_000), ("1.5 GB", 1_500_000_000)]
)
def test_sizes_are_read(text: str, size: int) -> None:
    assert byte_count(text) == size


@pytest.mark.parametrize("text", ["", "MB", "8 TB", "-1"])
def test_text_that_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        byte_count(text)


def test_kilobytes_are_found_in_what_proc_says() -> None:
    assert kilobytes("VmPeak:\t  9 kB\nVmHWM:\t  123 kB\n", "VmHWM") == 123
    assert kilobytes("", "VmHWM") == 0
