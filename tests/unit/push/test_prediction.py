"""What a dry run says of the wire: which step is settled on, and what a sample comes to."""

from __future__ import annotations

import os
from pathlib import Path
from typing import cast

import pytest

from envsync.agent.source.sampling import SAMPLE_BLOCKS_MAX, sampled
from envsync.agent.trees.directory_read import open_directory
from envsync.agent.trees.outgoing import BLOCK_BYTES
from envsync.agent.wire import codec
from envsync.agent.wire.source_operations import SampleFacts
from envsync.push.steps.prediction import likely_step, predicted_wire_bytes
from envsync.ssh.session import Link
from envsync.transport.choice import Choice
from envsync.transport.effort import SMALL_BYTES, Step
from envsync.transport.job import Ask, Job, Receiver, Supply
from envsync.transport.stream import StreamTransport

LADDER = (Step("zstd", -5), Step("zstd", 1, 180e6), Step("zstd", 3, 50e6))
# By the middle step, two processors give 100 MB/s.
SAMPLE = SampleFacts(300, (200, 100, 80), (1e-6, 2e-6, 4e-6))


@pytest.mark.parametrize(
    ("size_bytes", "bytes_per_second", "level"),
    [
        (10**6, None, 3),  # so little that it is sent before anything is known
        (10**9, 5e9, -5),
        (10**9, 160e6, -5),  # a processor cannot keep up
        (10**9, 90e6, 1),  # 1 Gbit/s
        (10**9, 35e6, 3),
        (10**9, 25e6, 3),  # 200 Mbit/s
    ],
)
def test_the_step_that_the_sender_will_settle_on(
    size_bytes: int, bytes_per_second: float | None, level: int
) -> None:
    assert LADDER[likely_step(LADDER, SAMPLE, size_bytes, bytes_per_second)].level == level


def test_ladder_of_one_step_is_settled_on_it() -> None:
    assert likely_step(LADDER[:1], SampleFacts(9, (9,), (0.0,)), 9, None) == 0


def test_a_limit_is_kept_and_not_measured() -> None:
    """What is sent to measure a link is as much as it takes in a quarter of a second."""
    asked: list[object] = []
    job = Job(
        supply=Supply(),
        target=Receiver(
            link=cast("Link", object()),
            ask=cast("Ask", lambda *arguments: asked.append(arguments)),
            python="",
            codecs=(codec.ZLIB, codec.NONE),
        ),
        items=((b"large", SMALL_BYTES + 1),),
        all_fetches=True,
        tree="",
        token="",
        limit_bits_per_second=10**6,
        on_sent=lambda _: None,
    )
    choice = Choice(StreamTransport(), "")
    sample = SampleFacts(100, (100, 50), (1e-6, 2e-6))
    predicted = predicted_wire_bytes(job, choice, lambda *_: sample)
    assert predicted == round(job.size_bytes / 2)
    assert asked == []


def test_a_sample_is_what_would_be_sent(tmp_path: Path) -> None:
    items = []
    for number, data in enumerate([b"a" * 100, b"", os.urandom(5), b"b" * (2 * BLOCK_BYTES)]):
        (tmp_path / str(number)).write_bytes(data)
        items.append((b"%d" % number, len(data)))
    items.append((b"gone", 70))
    top_fd = open_directory(os.fsencode(tmp_path))
    try:
        found = sampled(top_fd, items, [("none", 0), ("zlib", 1)])
        assert found.content_bytes == 105 + 2 * BLOCK_BYTES
        none, zlib = found.packed_bytes
        heads = none - found.content_bytes
        assert 0 < heads < 100
        assert zlib < none / 50
        many = [(b"3", 2 * BLOCK_BYTES)] * SAMPLE_BLOCKS_MAX
        assert sampled(top_fd, many, [("none", 0)]).content_bytes == SAMPLE_BLOCKS_MAX * BLOCK_BYTES
        assert sampled(top_fd, [], [(codec.NONE, 0)]).content_bytes == 0
    finally:
        os.close(top_fd)
