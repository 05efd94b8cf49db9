"""How hard a stream compresses: it settles on what gets the most content through."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envsync.transport.effort import BlockTiming, Effort, Step

LADDER = (Step("zstd", -5), Step("zstd", 1, 180e6), Step("zstd", 3, 50e6))
SIZES = 0.63, 0.44, 0.36
"""What a byte of content becomes on the wire, step by step."""
BLOCK_BYTES = 1_000_000
BUFFER_BYTES = 4_000_000
BLOCKS_AHEAD = 8
MUCH = 1 << 30


@dataclass
class Road:
    """A link and the processors behind it; `content_per_second` is theirs, step by step."""

    wire_per_second: float
    content_per_second: tuple[float, ...]
    clock: float = 0.0
    buffered_bytes: float = 0.0
    steps: list[int] = field(default_factory=list)

    def best(self) -> float:
        return max(self.rate(step) for step in range(len(self.content_per_second)))

    def rate(self, step: int) -> float:
        return min(self.wire_per_second / SIZES[step], self.content_per_second[step])

    def send(self, effort: Effort, blocks: int) -> float:
        """Send so many blocks; how much content got through in a second, buffers aside."""
        began = self.clock
        queue = [LADDER.index(effort.step)] * BLOCKS_AHEAD
        for _ in range(blocks):
            queue.append(LADDER.index(effort.step))
            step = queue.pop(0)
            self.steps.append(step)
            effort.observe(self._sent(step))
        return blocks * BLOCK_BYTES / (self.clock - began)

    def _sent(self, step: int) -> BlockTiming:
        """Sending and all the rest overlap; what the link has not taken yet waits in a buffer."""
        wire_bytes = BLOCK_BYTES * SIZES[step]
        working = BLOCK_BYTES / self.content_per_second[step]
        over = self.buffered_bytes + wire_bytes - BUFFER_BYTES
        taken = max(working, over / self.wire_per_second)
        self.buffered_bytes += wire_bytes - taken * self.wire_per_second
        self.buffered_bytes = max(0.0, self.buffered_bytes)
        self.clock += taken
        # A receiver on the same processors holds blocks up just like a link.
        return BlockTiming(BLOCK_BYTES, int(wire_bytes), taken, by_link=True, by_processor=False)


def settled(road: Road, blocks: int = 1500) -> int:
    """The step that it takes most of the time once it knows."""
    effort = Effort(LADDER, MUCH, lambda: road.clock)
    road.send(effort, blocks)
    late = road.steps[blocks // 2 :]
    return max(range(len(LADDER)), key=late.count)


@pytest.mark.parametrize(
    ("wire_per_second", "content_per_second", "step"),
    [
        pytest.param(25e6, (210e6, 195e6, 150e6), 2, id="200 Mbit/s"),
        pytest.param(117e6, (210e6, 205e6, 150e6), 1, id="1 Gbit/s"),
        pytest.param(5e9, (210e6, 190e6, 140e6), 0, id="no limit, two processors for all"),
        pytest.param(117e6, (900e6, 500e6, 300e6), 1, id="1 Gbit/s, many processors"),
        pytest.param(11e6, (100e6, 60e6, 30e6), 2, id="100 Mbit/s, a slow processor"),
    ],
)
def test_effort_settles_on_the_quickest_step(
    wire_per_second: float, content_per_second: tuple[float, ...], step: int
) -> None:
    assert settled(Road(wire_per_second, content_per_second)) == step


@given(
    st.floats(3e6, 1e9),
    st.floats(240e6, 900e6),
    st.floats(0.5, 0.95),
    st.floats(0.5, 0.95),
)
def test_trying_costs_little(wire: float, first: float, second: float, third: float) -> None:
    """Whatever the link and the processors: not much behind who had known the step to begin with.

    Of the steps that are for such a link at all; and of processors that keep up with a link that
    crawls whatever the step, as any do.
    """
    road = Road(wire, (first, first * second, first * second * third))
    effort = Effort(LADDER, MUCH, lambda: road.clock)
    assert road.send(effort, 1500) > 0.85 * road.rate(0)


def test_a_link_that_crawls_gets_the_last_step_soon() -> None:
    road = Road(25e6, (210e6, 195e6, 150e6))
    effort = Effort(LADDER, MUCH, lambda: road.clock)
    road.send(effort, 40)
    assert road.steps[24:] == [2] * 16


def observed(effort: Effort, blocks: int, sent: BlockTiming) -> Step:
    for _ in range(blocks):
        effort.observe(sent)
    return effort.step


def test_without_a_reason_it_stays() -> None:
    sent = BlockTiming(BLOCK_BYTES, BLOCK_BYTES // 2, 0.01, by_link=False, by_processor=False)
    assert observed(Effort(LADDER, MUCH), 200, sent) == LADDER[0]


def test_a_fast_link_is_not_worth_more_effort() -> None:
    sent = BlockTiming(BLOCK_BYTES, BLOCK_BYTES // 2, 0.0025, by_link=True, by_processor=False)
    assert observed(Effort(LADDER, MUCH), 200, sent) == LADDER[0]


def test_where_there_is_only_zlib() -> None:
    ladder = (Step("none", 0), Step("zlib", 1, 40e6))
    slow = BlockTiming(BLOCK_BYTES, BLOCK_BYTES, 0.08, by_link=True, by_processor=False)
    assert observed(Effort(ladder, MUCH), 16, slow) == ladder[1]
    fast = BlockTiming(BLOCK_BYTES, BLOCK_BYTES, 0.02, by_link=True, by_processor=False)
    assert observed(Effort(ladder, MUCH), 100, fast) == ladder[0]


def test_a_little_is_compressed_well_whatever_the_link() -> None:
    assert Effort(LADDER, 10_000_000).step == LADDER[2]
    assert Effort(LADDER[:1], 0).step == LADDER[0]
    crawling = Step("zstd-streamed", 3, 30e6)
    assert Effort((*LADDER, crawling), 10_000_000).step == LADDER[2]


def test_large_transfer_begins_where_the_ladder_says() -> None:
    ladder = (LADDER[0], LADDER[1]._replace(begins=True), LADDER[2])
    assert Effort(ladder, MUCH).step == ladder[1]
    behind = BlockTiming(BLOCK_BYTES, BLOCK_BYTES // 2, 0.0, by_link=False, by_processor=True)
    assert observed(Effort(ladder, MUCH), 40, behind) == ladder[0]


def test_ladder_of_one_step_stays_on_it() -> None:
    sent = BlockTiming(BLOCK_BYTES, BLOCK_BYTES, 1.0, by_link=True, by_processor=False)
    assert observed(Effort(LADDER[:1], MUCH), 100, sent) == LADDER[0]


def test_where_blocks_wait_for_a_processor_less_is_tried() -> None:
    slow = BlockTiming(BLOCK_BYTES, BLOCK_BYTES // 2, 0.05, by_link=True, by_processor=False)
    effort = Effort(LADDER, MUCH)
    assert observed(effort, 16, slow) == LADDER[2]
    behind = BlockTiming(BLOCK_BYTES, BLOCK_BYTES // 2, 0.0, by_link=False, by_processor=True)
    assert observed(effort, 40, behind) == LADDER[1]


def test_a_step_that_was_no_gain_is_tried_ever_less_often() -> None:
    road = Road(5e9, (100e6, 99e6, 98e6))
    road.send(Effort(LADDER, MUCH, lambda: road.clock), 4000)
    changes = [at for at in range(1, 4000) if road.steps[at] != road.steps[at - 1]]
    assert len(changes) < 16
    assert all(later - at > 300 for at, later in zip(changes[5::2], changes[6::2], strict=False))
