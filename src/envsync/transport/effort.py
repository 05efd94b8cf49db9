"""Adapts how hard a stream compresses, by trying which step gets the most content through."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import NamedTuple

SMALL_BYTES = 64 << 20
"""A smaller stream starts with a hard step: much of it is sent before the link is measured."""

CRAWLING_BYTES_PER_SECOND = 30e6
"""At this rate and below, any processor keeps up with the link at every step."""


class Step(NamedTuple):
    """A codec and its level, and the links that it suits.

    On a link faster than `below_bytes_per_second` the processor would be the slower one. A large
    stream starts with the step of its ladder that `begins`, else with the first.
    """

    codec: str
    level: int
    below_bytes_per_second: float = math.inf
    begins: bool = False


class BlockTiming(NamedTuple):
    """Measurements of one block that was sent.

    `seconds` is how long the link took; `by_link` and `by_processor` say what the block had
    waited for before.
    """

    content_bytes: int
    wire_bytes: int
    seconds: float
    by_link: bool
    by_processor: bool


class _Window(NamedTuple):
    """Sums over some blocks in a row. `balance` is how many more waited for the link than not."""

    began: float
    blocks: int = 0
    content_bytes: int = 0
    wire_bytes: int = 0
    seconds: float = 0.0
    balance: int = 0

    def with_block(self, block: BlockTiming) -> _Window:
        return _Window(
            self.began,
            self.blocks + 1,
            self.content_bytes + block.content_bytes,
            self.wire_bytes + block.wire_bytes,
            self.seconds + block.seconds,
            self.balance + block.by_link - block.by_processor,
        )

    @property
    def waits_for_link(self) -> bool:
        return self.balance > self.blocks // 2

    @property
    def waits_for_processor(self) -> bool:
        return self.balance < -(self.blocks // 2)

    @property
    def link_bytes_per_second(self) -> float:
        return self.wire_bytes / max(self.seconds, 1e-9)

    def content_bytes_per_second(self, now: float) -> float:
        return self.content_bytes / max(now - self.began, 1e-9)


class _Phase(Enum):
    """What the present window is for."""

    FILLING = auto()
    """The first blocks only fill the buffers of the link."""
    LOOKING = auto()
    """The next ones show whether the link crawls."""
    SETTLING = auto()
    """Blocks that do not count: some were compressed before the last change of the step, and
    others only fill the buffers."""
    MEASURING = auto()
    """These decide."""


class _Trial(NamedTuple):
    """A step that was left to try another, and the content that got through with it."""

    step: int
    content_bytes_per_second: float


class Effort:
    """Chooses the compression step of each block of a stream from how earlier blocks fared.

    If blocks wait for the link, the next step is tried; if they wait for a processor, the one
    before. The new step stays if more content gets through with it. A step without gain is not
    tried again for a while, which doubles each time. A crawling link gets the last step.
    """

    _FILLING_BLOCKS = 8
    _LOOKING_BLOCKS = 8
    _SETTLING_BLOCKS = 24
    _MEASURING_BLOCKS = 16
    _GAIN = 1.03
    _REST_WINDOWS = 8

    def __init__(
        self,
        ladder: Sequence[Step],
        size_bytes: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`size_bytes` is how much content there will be."""
        self._ladder = ladder
        self._clock = clock
        self._at = self.starts_at(ladder, size_bytes)
        self._trial: _Trial | None = None
        # For each step: the windows until it may be tried again, and how many the next time.
        self._rest = [0] * len(ladder)
        self._next_rest = [self._REST_WINDOWS] * len(ladder)
        self._phase = _Phase.FILLING
        self._phase_blocks = self._FILLING_BLOCKS
        self._window = _Window(clock())

    @staticmethod
    def starts_at(ladder: Sequence[Step], size_bytes: int) -> int:
        """Return the index of the first block's step."""
        if size_bytes > SMALL_BYTES:
            return next((number for number, step in enumerate(ladder) if step.begins), 0)
        # Steps for crawling links only are too slow here.
        fit = [step for step in ladder if step.below_bytes_per_second > CRAWLING_BYTES_PER_SECOND]
        return max(0, len(fit) - 1)

    @property
    def step(self) -> Step:
        return self._ladder[self._at]

    def observe(self, block: BlockTiming) -> None:
        """Take the measurements of a block that was sent into account."""
        self._window = window = self._window.with_block(block)
        if window.blocks < self._phase_blocks:
            return
        match self._phase:
            case _Phase.FILLING:
                self._enter(_Phase.LOOKING, self._LOOKING_BLOCKS)
            case _Phase.LOOKING:
                self._look(window)
            case _Phase.SETTLING:
                self._enter(_Phase.MEASURING, self._MEASURING_BLOCKS)
            case _Phase.MEASURING:
                self._decide(window)

    def _enter(self, phase: _Phase, blocks: int) -> None:
        self._phase, self._phase_blocks = phase, blocks
        self._window = _Window(self._clock())

    def _look(self, window: _Window) -> None:
        if window.waits_for_link and window.link_bytes_per_second < CRAWLING_BYTES_PER_SECOND:
            self._use(len(self._ladder) - 1)
        else:
            seen = self._FILLING_BLOCKS + self._LOOKING_BLOCKS
            self._enter(_Phase.SETTLING, self._SETTLING_BLOCKS - seen)

    def _decide(self, window: _Window) -> None:
        """Choose the next step at the end of a window."""
        content_per_second = window.content_bytes_per_second(self._clock())
        self._rest = [max(0, windows - 1) for windows in self._rest]
        trial, self._trial = self._trial, None
        if trial and content_per_second < trial.content_bytes_per_second * self._GAIN:
            self._rest[self._at] = self._next_rest[self._at]
            self._next_rest[self._at] *= 2
            self._use(trial.step)
            return
        wanted = self._wanted(window)
        if wanted != self._at and not self._rest[wanted]:
            self._trial = _Trial(self._at, content_per_second)
            self._use(wanted)
        else:
            self._enter(_Phase.MEASURING, self._MEASURING_BLOCKS)

    def _wanted(self, window: _Window) -> int:
        """Return the step that is worth trying, or the present one."""
        if window.waits_for_processor:
            return max(0, self._at - 1)
        harder = self._at + 1
        if (
            harder < len(self._ladder)
            and window.waits_for_link
            and window.link_bytes_per_second < self._ladder[harder].below_bytes_per_second
        ):
            return harder
        return self._at

    def _use(self, step: int) -> None:
        self._at = step
        self._enter(_Phase.SETTLING, self._SETTLING_BLOCKS)
