"""What a dry run says of the wire: which step is settled on, and what a sample comes to."""

from __future__ import annotations

import os
import random
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from envsync.agent.source.sampling import SAMPLE_BLOCKS_MAX, Steps, sampled
from envsync.agent.trees.directory_read import opened_directory
from envsync.agent.trees.outgoing import BLOCK_BYTES, outgoing
from envsync.agent.wire import codec
from envsync.agent.wire.source_operations import SampleFacts
from envsync.agent.wire.transfer_operations import (
    LOCATE_BUNDLE,
    RECEIVE,
    UNPACK_BUNDLE,
    BundleFacts,
    ReceiveFacts,
)
from envsync.push.steps.prediction import likely_step, predicted_wire_bytes
from envsync.ssh.session import Link
from envsync.transport.choice import Choice
from envsync.transport.effort import SMALL_BYTES, Step
from envsync.transport.job import Ask, Item, Job, Receiver, Supply
from envsync.transport.scp import ScpTransport
from envsync.transport.stream import StreamTransport
from tests.support.transport_job import JOB

LADDER = (Step("zstd", -5), Step("zstd", 1, 180e6), Step("zstd", 3, 50e6))
# By the middle step, two processors give 100 MB/s.
SAMPLE = SampleFacts((200, 100, 80), (1e-6, 2e-6, 4e-6))


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
    assert likely_step(LADDER[:1], SampleFacts((9,), (0.0,)), 9, None) == 0


def test_a_limit_is_kept_and_not_measured() -> None:
    """What is sent to measure a link is as much as it takes in a quarter of a second."""
    job = job_for(((b"large", SMALL_BYTES + 1),), codecs=(codec.ZLIB, codec.NONE))
    choice = Choice(StreamTransport(), "")
    sample = SampleFacts((100, 50), (1e-6, 2e-6))
    limited = replace(job, limit_bits_per_second=10**6)
    assert predicted_wire_bytes(limited, choice, lambda *_: sample) == 50


def job_for(items: Sequence[Item], *, codecs: Sequence[str], top: bytes = b"") -> Job:
    """Return a job for a target that takes anything."""

    def contents(items: Collection[Item], progress: object = None) -> Iterator[bytes]:
        with opened_directory(top) as top_fd:
            yield from outgoing(top_fd, items)

    def ask(
        operation: object, _: object, stream: Iterable[bytes] | None = None, *__: object
    ) -> Any:
        if operation is LOCATE_BUNDLE:
            return BundleFacts("/bundle", 0, "", 1 << 40)
        assert operation in (RECEIVE, UNPACK_BUNDLE)
        for _block in stream or ():
            pass
        return ReceiveFacts(len(items), ())

    class TakesUploads:
        def upload(self, *_: object) -> None:
            pass

    target = Receiver(cast("Link", TakesUploads()), cast("Ask", ask), "", tuple(codecs))
    return replace(JOB, supply=Supply(top, contents), target=target, items=items)


def text(number: int, size_bytes: int) -> bytes:
    """Return words as in a program."""
    words = random.Random(number)
    names = [words.randbytes(3).hex() for _ in range(400)]
    return " ".join(words.choices(names, k=size_bytes // 7)).encode()


def noise(number: int, size_bytes: int) -> bytes:
    return random.Random(number).randbytes(size_bytes)


PERIODIC = b"[" + b",".join(b"%d" % (number % 997) for number in range(170_000)) + b"]"
KINDS: Mapping[str, Sequence[bytes]] = {
    "nothing": [],
    "one empty file": [b""],
    "one byte": [b"x"],
    "many empty files": [b""] * 3000,
    "many small files of the same text": [b"%03d" % n + b"the same\n" * 59 for n in range(300)],
    "many small files": [text(n, 50 + n) for n in range(2000)],
    "many small files, more than a sample": [
        text(n % 97, 2000) + noise(n, 700) for n in range(11_000)
    ],
    "periodic numbers": [PERIODIC, PERIODIC[7:], PERIODIC[9:]],
    "large of periodic numbers": [PERIODIC * 50],
    "random": [noise(1, 3 << 20)],
    "nearly equal ones": [noise(1, 500_000) + b"%d" % n for n in range(80)],
    "mixed": [noise(1, 2 << 20), text(1, 5 << 20), bytes(4 << 20), b"", b"x", noise(2, 9)],
    "more than a sample": [text(n, 900_000) if n % 2 else noise(n, 900_000) for n in range(40)],
    "large of text and noise": [text(1, 20 << 20) + noise(1, 20 << 20)],
    "zeros and a little": [bytes(40 << 20) + noise(1, 3 << 20) + bytes(20 << 20)],
}
CODECS: Mapping[str, Sequence[str]] = {
    "streamed": codec.encodable(),
    "zstd": (codec.ZSTD,),
    "zlib": (codec.ZLIB,),
    "none": (),
}
SAMPLE_BYTES = SAMPLE_BLOCKS_MAX * BLOCK_BYTES
CASES = [
    (kind, codecs)
    for kind, contents in KINDS.items()
    for codecs in CODECS
    if codecs == "streamed" or sum(map(len, contents)) < SAMPLE_BYTES
]


@pytest.mark.parametrize(("kind", "codecs"), CASES)
def test_what_is_predicted_is_what_is_sent(tmp_path: Path, kind: str, codecs: str) -> None:
    """By stream and by scp: exactly up to a sample's size, and within 30 % beyond."""
    items = []
    for number, content in enumerate(KINDS[kind]):
        (tmp_path / f"{number}").write_bytes(content)
        items.append((b"%d" % number, len(content)))
    job = job_for(items, codecs=CODECS[codecs], top=os.fsencode(tmp_path))

    def sample_of(items: Collection[Item], _: object, steps: Steps) -> SampleFacts:
        with opened_directory(os.fsencode(tmp_path)) as top_fd:
            return sampled(top_fd, list(items), steps)

    for transport in (StreamTransport(), ScpTransport()) if items else ():
        predicted = predicted_wire_bytes(job, Choice(transport, ""), sample_of)
        sent = transport.send(job).wire_bytes
        if job.size_bytes < SAMPLE_BYTES // 2:
            assert predicted == sent
        assert predicted == pytest.approx(sent, rel=0.3)
    if not items:
        assert predicted_wire_bytes(job, Choice(StreamTransport(), ""), sample_of) == 0


def test_a_sample_is_of_the_contents_that_are_sent_in_place_of_a_file(tmp_path: Path) -> None:
    content = noise(1, 3 * BLOCK_BYTES)
    items = [(b"link", len(content)), (b"gone", 70)]
    instead = {b"link": content}.get
    with opened_directory(os.fsencode(tmp_path)) as top_fd:
        found = sampled(top_fd, items, [("none", 0)], instead)
        stream = list(outgoing(top_fd, items, instead=instead))
    encoder = codec.Encoder("none", 0)
    assert found.wire_bytes == (sum(len(encoder.block(block)) for block in stream),)
