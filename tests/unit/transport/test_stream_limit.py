"""A limit is kept at all times, not on the average."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import SimpleNamespace

import pytest

from envsync.transport import stream

LIMIT = 8_000_000
PER_SECOND = LIMIT // 8


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    fake = SimpleNamespace(monotonic=made.monotonic, sleep=made.sleep)
    monkeypatch.setattr(stream, "time", fake)
    return made


def most_in(seconds: float, sent: Sequence[tuple[float, int]]) -> int:
    """Bytes that went out in the fullest span of that length."""
    return max(
        sum(size for when, size in sent if start <= when <= start + seconds) for start, _ in sent
    )


@pytest.mark.parametrize(
    "pauses",
    [
        pytest.param([0.0] * 40, id="none"),
        pytest.param([0.0] * 20 + [30.0] + [0.0] * 20, id="a long one"),
        pytest.param([0.0, 0.4] * 20, id="many short ones"),
    ],
)
def test_no_second_gets_more_than_its_own(pauses: Sequence[float], clock: Clock) -> None:
    """The target was busy, or the source had to be read: that is not made up for."""

    def blocks() -> Iterator[bytes]:
        for pause in pauses:
            clock.now += pause
            yield bytes(PER_SECOND // 4)

    began = clock.now
    counter = stream._Counter(LIMIT)
    sent = [(clock.now, len(piece)) for piece in counter.counted(blocks())]
    assert counter.wire_bytes == sum(size for _, size in sent) == len(pauses) * PER_SECOND // 4
    # Its own, a tenth that was saved up, and the piece with which the second begins.
    assert most_in(1.0, sent) <= PER_SECOND * 1.21
    # Nor is it held back for longer than that takes.
    assert clock.now - began <= sum(pauses) + len(pauses) / 4 + 0.01


def test_short_delay_is_made_up_for(clock: Clock) -> None:
    """A sleep is never exact: the rate is what it is to be all the same."""

    def blocks() -> Iterator[bytes]:
        for _ in range(100):
            clock.now += 0.05
            yield bytes(PER_SECOND // 10)

    began = clock.now
    for _ in stream._Counter(LIMIT).counted(blocks()):
        pass
    assert clock.now - began == pytest.approx(10.0, abs=0.2)


def test_without_a_limit_nothing_waits(clock: Clock) -> None:
    counter = stream._Counter(None)
    sent = [b"123", b"", b"45"]  # a remote source may send anything
    assert list(counter.counted(iter(sent))) == sent
    assert (counter.wire_bytes, clock.now) == (5, 1000.0)
