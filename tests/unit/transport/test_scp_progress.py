"""What is reported while a bundle is sent."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from envsync.transport.job import Item, Job, Receiver, Supply
from envsync.transport.scp import _counting


class Items(list[Item]):
    """Knows how often somebody went through all of them: there may be 200,000."""

    passes = 0

    def __iter__(self) -> Iterator[Item]:
        self.passes += 1
        return super().__iter__()


def ask(*_: object, **__: object) -> Any:
    raise AssertionError("nobody needs to be asked")


@pytest.mark.parametrize(
    ("bundle_bytes", "blocks", "told"),
    [
        (400, [0, 100, 100, 200], [250, 250, 500]),
        (400, [300, 100], [750, 250]),
        (0, [0], []),
    ],
)
def test_bytes_of_content_are_told_in_proportion_and_summed_up_once(
    bundle_bytes: int, blocks: list[int], told: list[int]
) -> None:
    items, sent_bytes = Items([(b"a", 300), (b"b", 700)]), list[int]()
    target = Receiver(None, ask, "", ())
    job = Job(Supply(b"/s"), target, items, True, "/t", "", None, sent_bytes.append)
    count = _counting(job, bundle_bytes)
    for block in blocks:
        count(block)
    assert sent_bytes == told
    assert items.passes == 1
