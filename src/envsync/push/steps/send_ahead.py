"""Uses the time in which a source is hashed: sends, or has the target read, what will be needed."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, replace

from envsync.agent.wire.figures import OnFigure
from envsync.agent.wire.messages import TargetState
from envsync.agent.wire.transfer_operations import ReceiveFacts
from envsync.conda.manifest_packages import metadata_paths
from envsync.push.ends.both_ends import BothEnds
from envsync.push.ends.target_answers import KnownThere
from envsync.push.preflight import preflight
from envsync.push.request.method import REBUILD
from envsync.push.steps.decision import method_for
from envsync.push.steps.progress import ProgressTracker
from envsync.transport.job import Contents, Item, Job, Receiver
from envsync.transport.names import AUTO, STREAM
from envsync.transport.stream import StreamTransport
from envsync.tree import outline as outlines
from envsync.tree.manifest import Manifest, encode


@dataclass(frozen=True, slots=True)
class SentAhead:
    """What was sent before there was a plan."""

    items: Collection[Item]
    size_bytes: int

    def together_with(self, items: Collection[Item]) -> int:
        """Return the number of files that were sent ahead, or are among `items`, or both."""
        more = {path for path, _ in items}
        return len(self.items) + len(more) - sum(path in more for path, _ in self.items)


class SendAhead:
    """What a push does before its source is known."""

    def __init__(self, ends: BothEnds, progress: ProgressTracker, askers: Executor) -> None:
        self._ends = ends
        self._settings, self._source, self._target = ends
        self._progress = progress
        self._askers = askers
        self.sent: SentAhead | None = None
        self.known: KnownThere | None = None
        """What the target has of the source's content; None if it was not asked."""

    def use_the_wait(self, target: TargetState) -> None:
        """Use the time in which the source is hashed.

        A target that has nothing is sent what it will need. Any other target reads what it will be
        asked about.
        """
        has_nothing = not (target.exists or target.generations or target.held)
        may_stream = self._settings.transport in (AUTO, STREAM)
        if not (has_nothing and may_stream) or self._settings.method == REBUILD:
            self._target.prepare()
            return
        with self._source.hashing_while_sent() as contents:
            self._send(self._outline_for(target), contents)
        # Confirm the source, once it is hashed, while the target looks at what has arrived.
        look = self._source.look
        self._askers.submit(lambda: look.confirmed(look.state()))
        self.finish_begun()

    def _outline_for(self, target: TargetState) -> Manifest | None:
        """Return what can be sent before the source is hashed; None if nothing can.

        Raises what can be refused already.
        """
        outlined = self._source.outline()
        if outlined is None:
            return None
        choice = method_for(self._settings, outlined.state, target)
        if choice.method.is_rebuild:
            return None
        preflight.require_source(outlined.state)
        is_archive = bool(self._settings.archive)
        preflight.require_target(outlined.state, choice.target, is_archive=is_archive)
        return outlined.manifest

    def _send(self, outline: Manifest | None, contents: Contents) -> None:
        """Send what an outline names to a target that has nothing."""
        if outline is None:
            return
        self.known = self._target.known_there(metadata_paths(outline))
        if self.known.has_most or self.known.has_begun:
            # The hashes are worth waiting for: they tell what need not be sent.
            return
        items, encoded = outlines.files(outline), encode(outline)
        del outline  # as large as the listings of 200,000 files
        job = send_job(self._ends, self._progress, items)
        job = replace(job, supply=replace(job.supply, contents=contents))
        self._progress.begin("transfer", job.size_bytes)
        if self._send_begun(job, encoded):
            self.sent = SentAhead(job.items, job.size_bytes)
        self._progress.begin("inspect")

    def _send_begun(self, job: Job, outline: bytes) -> bool:
        """Send while the target still prepares; return whether it took the contents."""
        has_begun = False
        taken = threading.Event()
        # The time that blocks wait for a target that is not ready says nothing about the link.
        job = replace(job, is_taken=taken.is_set)

        def ask(blocks: Iterator[bytes], hear: OnFigure) -> ReceiveFacts:
            nonlocal has_begun
            received = self._target.begin(outline, blocks, taken.set, hear)
            has_begun = received is not None
            return received or ReceiveFacts(0, ())

        # Faulty files among them are found by the plan, and sent like any others.
        self._progress.sent_on_wire(StreamTransport().send_as(job, ask).wire_bytes)
        return has_begun

    def finish_begun(self) -> None:
        """Have what was sent ahead, if anything, finished and inspected on the target.

        A target that has the packages under another name copies them now, while the source is still
        hashed.
        """
        if self.sent is not None:
            self._target.finish_begun()
        has_most = self.known is not None and self.known.has_most
        if self.sent is not None or (has_most and self._target.begin_alike()):
            # The staging tree is what the manifest can refer to from now on.
            self.known = self._target.known_there(frozenset())


def send_job(ends: BothEnds, progress: ProgressTracker, items: Collection[Item]) -> Job:
    """Return the job for these files, for a staging tree that is still to be made."""
    settings, source, target = ends
    return Job(
        supply=source.supply,
        target=Receiver(
            target.link, target.ask, target.python, target.codecs, target.prints_at_login
        ),
        items=items,
        all_fetches=True,
        tree="",
        token="",
        limit_bits_per_second=settings.limit_bits_per_second,
        on_sent=progress.sent,
        on_files=progress.sent_files,
    )
