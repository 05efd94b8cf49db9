"""Predicts how many bytes a push would put on the wire, for a dry run."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from envsync.agent.wire.source_operations import SampleFacts
from envsync.transport import delta, link_rate
from envsync.transport.choice import Choice
from envsync.transport.direct import DirectTransport
from envsync.transport.effort import SMALL_BYTES, Effort, Step
from envsync.transport.job import Item, Job
from envsync.transport.rsync import RsyncTransport
from envsync.transport.stream import StreamTransport, steps, workers_for

Sample = Callable[[Collection[Item], Sequence[str], Sequence[tuple[str, int]]], SampleFacts]
"""See `Source.sample`."""


def predicted_wire_bytes(job: Job, choice: Choice, sample_of: Sample) -> int | None:
    """Return the predicted bytes on the wire; None for rsync.

    rsync finds out only by comparing, which is half of sending.
    """
    if isinstance(choice.transport, (RsyncTransport, DirectTransport)):
        return None
    if not job.items:
        return 0
    # Another server encodes its contents itself: its sample has one step, of its own choice.
    ladder = () if job.supply.relayed is not None else steps(job)
    sample = sample_of(job.items, job.target.codecs, [(step.codec, step.level) for step in ladder])
    if not sample.content_bytes:
        return 0
    step = likely_step(ladder, sample, job.size_bytes, _bytes_per_second(job)) if ladder else 0
    known = delta.known_blocks(job) if choice.transport.name == StreamTransport.name else {}
    known_bytes = sum(size for path, size in job.items if path in known)
    new_bytes = job.size_bytes - known_bytes + delta.new_bytes(job, known)
    return round(new_bytes * sample.packed_bytes[step] / sample.content_bytes)


def _bytes_per_second(job: Job) -> float | None:
    """Return the limit or, without one, the link's measured speed; None if it will not matter."""
    if job.target.link is None or job.size_bytes <= SMALL_BYTES:
        return None
    if job.limit_bits_per_second is not None:
        return job.limit_bits_per_second / 8
    return link_rate.bytes_per_second(job)


def likely_step(
    ladder: Sequence[Step], sample: SampleFacts, size_bytes: int, bytes_per_second: float | None
) -> int:
    """Return the index of the step that the sender will settle on (see `transport.effort`)."""
    at = Effort.starts_at(ladder, size_bytes)
    if bytes_per_second is None:
        return at
    for number, step in enumerate(ladder):
        if not sample.seconds[number] or bytes_per_second >= step.below_bytes_per_second:
            break
        workers = workers_for(step.codec)
        if workers * sample.packed_bytes[number] / sample.seconds[number] > bytes_per_second:
            at = number
    return at
