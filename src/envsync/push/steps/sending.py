"""Stages, sends and verifies what a target lacks."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from typing import NamedTuple

from envsync.agent.wire.messages import ORIGIN_NEW, PlanFacts, ReceiveFacts
from envsync.conda.manifest_packages import metadata_paths
from envsync.errors import EnvsyncError, TransferFailed, VerificationFailed
from envsync.push.ends.both_ends import BothEnds
from envsync.push.ends.target_answers import KnownThere, Staged
from envsync.push.preflight.end_checks import DIFFERENCES_SHOWN
from envsync.push.steps.progress import ProgressTracker
from envsync.transport.choice import Choice, choose
from envsync.transport.job import Contents, Item, Job, Receiver
from envsync.transport.stream import Hear, StreamTransport
from envsync.tree import outline as outlines
from envsync.tree.manifest import Manifest, encode

VERIFICATIONS_MAX = 2
SENT_AHEAD = "the target had nothing, so it was sent while the source was hashed"


class SendOutcome(NamedTuple):
    """What was sent, and how; `warnings` are what staging found."""

    plan: PlanFacts
    job: Job
    choice: Choice
    warnings: tuple[str, ...]


class _SentAhead(NamedTuple):
    """What was sent before there was a plan."""

    files: int
    size_bytes: int


class SendForecast(NamedTuple):
    """What would be sent. `wire_bytes` is an estimate; None if nothing can tell."""

    plan: PlanFacts
    choice: Choice
    wire_bytes: int | None
    warnings: tuple[str, ...]


class SendStep:
    """The sending steps of one push."""

    def __init__(self, ends: BothEnds, progress: ProgressTracker) -> None:
        self._settings, self._source, self._target = ends
        self._progress = progress
        self._failed: frozenset[str] = frozenset()
        self._ahead: _SentAhead | None = None
        self._known: KnownThere | None = None
        self._looks: list[threading.Thread] = []

    def go_ahead(self, outline: Manifest | None, contents: Contents) -> None:
        """Send what an outline names to a target that has nothing. `settle` comes after it."""
        if outline is None:
            return
        self._known = self._target.known_there(metadata_paths(outline))
        if self._known.has_most or self._known.has_begun:
            # The hashes are worth waiting for: they tell what need not be sent.
            return
        items, encoded = outlines.files(outline), encode(outline)
        del outline  # as large as the listings of 200,000 files
        job = self._job(items)
        job = replace(job, supply=replace(job.supply, contents=contents))
        self._progress.begin("transfer", job.size_bytes)
        if self._send_begun(job, encoded):
            self._ahead = _SentAhead(len(job.items), job.size_bytes)
        self._progress.begin("inspect")

    def _send_begun(self, job: Job, outline: bytes) -> bool:
        """Send while the target still prepares; return whether it took the contents."""
        has_begun = False
        taken = threading.Event()
        # The time that blocks wait for a target that is not ready says nothing about the link.
        job = replace(job, is_taken=taken.is_set)

        def ask(blocks: Iterator[bytes], hear: Hear) -> ReceiveFacts:
            nonlocal has_begun
            received = self._target.begin(outline, blocks, taken.set, hear)
            has_begun = received is not None
            return received or ReceiveFacts(0, 0, ())

        # Faulty files among them are found by the plan, and sent like any others.
        self._progress.sent_on_wire(StreamTransport().send_as(job, ask).wire_bytes)
        return has_begun

    def settle(self) -> None:
        """Have what was sent ahead, if anything, finished and inspected on the target.

        A target that has the packages under another name copies them now, while the source is still
        hashed.
        """
        if self._ahead is not None:
            self._target.settle()
        has_most = self._known is not None and self._known.has_most
        if self._ahead is not None or (has_most and self._target.begin_alike()):
            # The staging tree is what the manifest can refer to from now on.
            self._known = self._target.known_there(frozenset())

    def planned(self, *, is_new: bool) -> SendForecast:
        """Return what would be sent. Nothing is changed. `is_new` is as for `send`."""
        from envsync.push.steps.prediction import predicted_wire_bytes

        manifest = self._manifest(is_new=is_new)
        staged = self._target.dry_plan(manifest)
        job = self._job_of(staged, is_new=is_new)
        choice = choose(self._settings.transport, job)
        wire_bytes = predicted_wire_bytes(job, choice, self._source.answers.sample)
        return SendForecast(staged.plan, choice, wire_bytes, staged.warnings)

    def send(self, *, is_new: bool) -> SendOutcome:
        """Have a staging tree brought forward by a plan, and send what it still lacks.

        `is_new` says that the target has nothing at the name.
        """
        staged = self._stage(is_new=is_new)
        plan, warnings = staged.plan, staged.warnings
        self._progress.begin("transfer", plan.fetch_bytes)
        job = self._job_of(staged, is_new=is_new)
        del staged  # the job has the same paths as its `fetches`, packed
        choice = choose(self._settings.transport, job)
        if job.items:
            choice = self._send(job, choice)
        return self._all_sent(SendOutcome(plan, job, choice, warnings))

    def _stage(self, *, is_new: bool) -> Staged:
        self._progress.begin("stage")
        manifest = self._manifest(is_new=is_new)
        self.look_meanwhile(self._look_closer)
        return self._target.stage(manifest)

    def _look_closer(self) -> None:
        """Ask the source, while the target builds, what will be needed later."""
        look, answers = self._source.look, self._source.answers
        look.confirmed(look.state())
        answers.outside()
        answers.credentials()

    def _manifest(self, *, is_new: bool) -> bytes:
        """Return the source's manifest for this target."""
        if self._known is None:
            packages = self._source.answers.packages() if is_new else frozenset()
            self._known = self._target.known_there(packages, looks_ahead=True)
        return self._source.manifest(self._known.references)

    def _job_of(self, staged: Staged, *, is_new: bool) -> Job:
        """Return the job for what a staging tree lacks."""
        # Without fetches, do not ask the source: its lock may be held by other pushes.
        job = self._job(self._source.items(staged.fetches) if staged.fetches else ())
        return replace(
            job,
            tree=staged.tree,
            token=staged.token,
            elsewhere=self._source.elsewhere(),
            # Whether the target may have other versions of files that have to be sent.
            has_versions=staged.plan.origin != ORIGIN_NEW or not is_new,
        )

    def _job(self, items: Collection[Item]) -> Job:
        """Return the job for these files, for a tree that is still to be made."""
        target = self._target
        return Job(
            supply=self._source.supply,
            target=Receiver(
                target.link, target.ask, target.python, target.codecs, target.prints_at_login
            ),
            items=items,
            all_fetches=True,
            tree="",
            token="",
            limit_bits_per_second=self._settings.limit_bits_per_second,
            on_sent=self._progress.sent,
            on_files=self._progress.sent_files,
        )

    def _send(self, job: Job, choice: Choice) -> Choice:
        """Send the job, and return how that was done in the end."""
        sent = choice.transport.send(job)
        self._progress.sent_on_wire(sent.wire_bytes)
        self._failed = frozenset(map(os.fsdecode, sent.failed))
        if sent.instead:
            return Choice(StreamTransport(), sent.instead, choice.agent_forwarded)
        return choice

    def _all_sent(self, sent: SendOutcome) -> SendOutcome:
        """Return `sent` with the figures of what went ahead of the plan added."""
        ahead = self._ahead
        if ahead is None:
            return sent
        plan = sent.plan._replace(
            origin=ORIGIN_NEW,
            fetch_files=sent.plan.fetch_files + ahead.files,
            fetch_bytes=sent.plan.fetch_bytes + ahead.size_bytes,
            new_bytes=sent.plan.new_bytes + ahead.size_bytes,
        )
        return sent._replace(plan=plan, choice=replace(sent.choice, reason=SENT_AHEAD))

    def verify(self, sent: SendOutcome) -> None:
        """Have the staging tree finished and hashed.

        Files that were sent and are wrong are sent once more. If that does not help, raises
        `StorageFailed` or `TransferFailed` if the source is the cause, else `VerificationFailed`.
        """
        self._progress.begin("verify")
        for number in range(1, VERIFICATIONS_MAX + 1):
            try:
                self._target.complete()
                return
            except VerificationFailed as error:
                wrong = {path.encode("utf-8", "surrogateescape") for path in error.details}
                items = tuple(item for item in sent.job.items if item[0] in wrong)
                if number == VERIFICATIONS_MAX or not items:
                    raise self._why_wrong(error) from error
                # They are sent whole: what they could be made from may be wrong.
                again = replace(sent.job, items=items, all_fetches=False, has_versions=False)
                # Stream them: that transport knows of each file whether it arrived.
                self._send(again, replace(sent.choice, transport=StreamTransport()))

    def _why_wrong(self, error: VerificationFailed) -> EnvsyncError:
        """Return the error that explains the wrong files.

        The usual cause is a source that changed meanwhile: what it sent was not what it had, even
        if it is the same again by now.
        """
        self._source.answers.require_readable(
            [path.encode("utf-8", "surrogateescape") for path in error.details]
        )
        self._progress.begin("inspect")
        has_changed = self._source.look.changed(self._progress.relay)
        if has_changed or self._failed.issuperset(error.details):
            return TransferFailed(
                "the source changed during the push; nothing was published",
                hint="push again when it is at rest",
                details=error.details[:DIFFERENCES_SHOWN],
            )
        error.details = error.details[:DIFFERENCES_SHOWN]
        return error

    def look_meanwhile(self, look: Callable[[], object]) -> None:
        """Ask the source in a thread for something that will be needed, while this push goes on.

        Errors are ignored: whoever needs the answer meets them. `end` waits for the thread.
        """

        def look_in_vain() -> None:
            with contextlib.suppress(EnvsyncError, OSError):
                look()

        thread = threading.Thread(target=look_in_vain, daemon=True)
        thread.start()
        self._looks.append(thread)

    def end(self) -> None:
        """Wait for the threads that ask the source, however the push went.

        After that, the source's helper processes may be ended.
        """
        for thread in self._looks:
            thread.join()
