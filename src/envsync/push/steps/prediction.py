"""Predicts how many bytes a push would put on the wire, for a dry run."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from envsync.agent.source.sampling import SAMPLE_BLOCKS_MAX, estimated
from envsync.agent.wire.source_operations import SampleFacts
from envsync.transport import delta, link_rate
from envsync.transport.choice import Choice
from envsync.transport.direct import DirectTransport
from envsync.transport.effort import SMALL_BYTES, Effort, Step
from envsync.transport.job import Item, Job
from envsync.transport.rsync import RsyncTransport
from envsync.transport.scp import bundle_steps
from envsync.transport.stream import StreamTransport, steps, workers_for

Sample = Callable[[Collection[Item], Sequence[str], Sequence[tuple[str, int]]], SampleFacts]
"""See `Source.sample`."""


def predicted_wire_bytes(job: Job, choice: Choice, sample_of: Sample) -> int | None:
    """Return the predicted bytes on the wire; None for rsync.

    rsync finds out only by comparing, which is half of sending.
    """
    if isinstance(choice.transport, (RsyncTransport, DirectTransport)):
        return None
    is_stream = choice.transport.name == StreamTransport.name
    known = delta.known_blocks(job) if is_stream else {}
    ladder = steps(job) if is_stream else bundle_steps(job)
    if job.supply.relayed is not None:
        # Another server encodes its contents itself: its sample has one step, of its own choice.
        ladder = ()
    predicted, bytes_per_second = 0, _bytes_per_second(job)
    changed = job.only([item for item in job.items if item[0] in known])
    if changed.items:
        sample = _sample_of_patches(changed, known, ladder)
        predicted += _wire_bytes(changed, ladder, sample, bytes_per_second)
    others = job.only([item for item in job.items if item[0] not in known])
    if others.items:
        sample = sample_of(others.items, job.target.codecs, [step[:2] for step in ladder])
        predicted += _wire_bytes(others, ladder, sample, bytes_per_second)
    return predicted


def _sample_of_patches(job: Job, known: delta.Known, ladder: Sequence[Step]) -> SampleFacts:
    """Return what the new blocks of these files come to; every file is read."""
    stream_bytes, kept, apart = 0, list[bytes](), 1
    for number, piece in enumerate(filter(None, delta.Patches(job, known)(job.items))):
        stream_bytes += len(piece)
        if number % apart == 0:
            kept.append(piece)
        if len(kept) > SAMPLE_BLOCKS_MAX:
            kept, apart = kept[::2], 2 * apart
    return estimated(kept, [step[:2] for step in ladder], stream_bytes)


def _wire_bytes(
    job: Job, ladder: Sequence[Step], sample: SampleFacts, bytes_per_second: float | None
) -> int:
    step = likely_step(ladder, sample, job.size_bytes, bytes_per_second) if ladder else 0
    return sample.wire_bytes[step]


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
        if workers * sample.wire_bytes[number] / sample.seconds[number] > bytes_per_second:
            at = number
    return at
