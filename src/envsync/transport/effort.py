"""Adapts how hard a stream compresses, by trying which step gets the most content through."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
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


class Sending(NamedTuple):
    """Measurements of one block that was sent.

    `seconds` is how long the link took; `by_link` and `by_processor` say what the block had
    waited for before.
    """

    content_bytes: int
    wire_bytes: int
    seconds: float
    by_link: bool
    by_processor: bool


class Effort:
    """Chooses the compression step of each block of a stream from how earlier blocks fared.

    If blocks wait for the link, the next step is tried; if they wait for a processor, the one
    before. The new step stays if more content gets through with it. A step without gain is not
    tried again for a while, which doubles each time. A crawling link gets the last step.
    """

    _WINDOW = 16
    _LAG = 24
    """Blocks after a change that are not counted: some were compressed before it, and others
    only fill the buffers of the link."""
    _FILLED, _EARLY = 8, 16
    """Number of first blocks after which the buffers are full, and after which it is clear
    whether the link crawls."""
    _GAIN = 1.03
    _REST = 8

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
        self._is_new = True
        self._before: tuple[int, float] | None = None
        self._rests = dict.fromkeys(range(len(ladder)), 0)
        self._next_rest = dict.fromkeys(range(len(ladder)), self._REST)
        self._begin(self._LAG)

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

    def observe(self, sent: Sending) -> None:
        """Take the measurements of a block that was sent into account."""
        self._seen += 1
        if self._seen == 0 or (self._is_new and self._seen == self._FILLED - self._LAG):
            self._forget()
            return
        self._content_bytes += sent.content_bytes
        self._wire_bytes += sent.wire_bytes
        self._seconds += sent.seconds
        self._balance += sent.by_link - sent.by_processor
        if self._is_new and self._seen == self._EARLY - self._LAG:
            self._is_new = False
            blocks = self._EARLY - self._FILLED
            if self._waits_for_link(blocks) and self._rate() < CRAWLING_BYTES_PER_SECOND:
                self._change(len(self._ladder) - 1, None)
        elif self._seen == self._WINDOW:
            self._decide(self._content_bytes / max(self._clock() - self._started, 1e-9))

    def _begin(self, lag: int) -> None:
        self._seen = -lag
        self._forget()

    def _forget(self) -> None:
        self._content_bytes = self._wire_bytes = self._balance = 0
        self._seconds = 0.0
        self._started = self._clock()

    def _rate(self) -> float:
        """Return the link's bytes per second."""
        return self._wire_bytes / max(self._seconds, 1e-9)

    def _waits_for_link(self, blocks: int) -> bool:
        return self._balance > blocks // 2

    def _decide(self, content_per_second: float) -> None:
        """Choose the next step at the end of a window."""
        self._rests = {step: max(0, rest - 1) for step, rest in self._rests.items()}
        if self._before is not None:
            at, before = self._before
            if content_per_second < before * self._GAIN:
                self._rests[self._at] = self._next_rest[self._at]
                self._next_rest[self._at] *= 2
                self._change(at, None)
                return
            self._before = None
        wanted = self._wanted()
        if wanted != self._at and not self._rests[wanted]:
            self._change(wanted, (self._at, content_per_second))
        else:
            self._begin(0)

    def _wanted(self) -> int:
        """Return the step that is worth trying, or the present one."""
        if self._balance < -self._WINDOW // 2:
            return max(0, self._at - 1)
        harder = self._at + 1
        if (
            harder < len(self._ladder)
            and self._waits_for_link(self._WINDOW)
            and self._rate() < self._ladder[harder].below_bytes_per_second
        ):
            return harder
        return self._at

    def _change(self, step: int, before: tuple[int, float] | None) -> None:
        self._at, self._before = step, before
        self._begin(self._LAG)
