"""What a stream learns of the link: nothing while nobody takes what is sent."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace

import pytest

from envsync.transport.effort import BlockTiming, Effort, Step
from envsync.transport.job import Item, Supply
from envsync.transport.stream import encoded
from tests.support.transport_job import JOB

BLOCKS = 12


class Watched(Effort):
    """Counts what it is told."""

    def __init__(self) -> None:
        super().__init__([Step("none", 0)], 0)
        self.told = 0

    def observe(self, sent: BlockTiming) -> None:
        self.told += 1
        super().observe(sent)


def contents(items: Collection[Item], progress: object = None) -> Iterator[bytes]:
    del items, progress
    for number in range(BLOCKS):
        yield bytes([number]) * 100


@pytest.mark.parametrize("taken_from", [0, 5, BLOCKS])
def test_blocks_that_wait_for_who_is_not_ready_tell_nothing(taken_from: int) -> None:
    items: list[Item] = [(b"file", 100 * BLOCKS)]
    sent: list[bytes] = []
    job = replace(
        JOB,
        items=items,
        supply=Supply(contents=contents),
        on_sent=lambda _: None,
        is_taken=lambda: len(sent) > taken_from,
    )
    effort = Watched()
    for block in encoded(job, effort):
        sent.append(block)  # noqa: PERF402 - each as soon as it is there
    assert len(sent) == BLOCKS
    assert effort.told == BLOCKS - taken_from
