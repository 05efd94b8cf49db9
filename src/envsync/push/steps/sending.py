"""Stages, sends and verifies what a target lacks."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace

from envsync.agent.wire.messages import ORIGIN_NEW, PlanFacts
from envsync.errors import EnvsyncError, Hint, TransferFailed, VerificationFailed
from envsync.push.ends.both_ends import BothEnds
from envsync.push.ends.target_answers import KnownThere, Staged
from envsync.push.preflight.end_checks import DIFFERENCES_SHOWN
from envsync.push.steps.progress import ProgressTracker
from envsync.push.steps.send_ahead import SendAhead, send_job
from envsync.transport.choice import Choice, automatic, named
from envsync.transport.job import Job
from envsync.transport.stream import StreamTransport

VERIFICATIONS_MAX = 2
SENT_AHEAD = "the target had nothing, so it was sent while the source was hashed"


@dataclass(frozen=True, slots=True)
class SendTask:
    """What is to be sent, and how; `warnings` are what staging found.

    `ruin` is why it may not be sent, where that is only planned; or "".
    """

    plan: PlanFacts
    job: Job
    choice: Choice
    warnings: tuple[str, ...]
    ruin: str


class SendStep:
    """The sending steps of one push."""

    def __init__(
        self, ends: BothEnds, progress: ProgressTracker, ahead: SendAhead, askers: Executor
    ) -> None:
        self._ends = ends
        self._settings, self._source, self._target = ends
        self._progress = progress
        self._ahead = ahead
        self._askers = askers
        self._failed: frozenset[str] = frozenset()
        self._known: KnownThere | None = None

    def forecast(self, *, is_new: bool) -> tuple[SendTask, int | None]:
        """Return what would be sent, and the bytes on the wire as far as anything can tell.

        Nothing is changed. `is_new` is as for `stage`.
        """
        from envsync.push.steps.prediction import predicted_wire_bytes

        staged = self._target.dry_plan(self._manifest(is_new=is_new))
        task = self._task(staged, self._named(), is_new=is_new)
        return task, predicted_wire_bytes(task.job, task.choice, self._source.sample)

    def stage(self, *, is_new: bool) -> SendTask:
        """Have a staging tree brought forward by a plan; return how to send what it still lacks.

        `is_new` says that the target has nothing at the name.
        """
        self._progress.begin("stage")
        manifest = self._manifest(is_new=is_new)
        # Before staging, which uses up an earlier version, because this may refuse the push.
        choice = self._named()
        self._askers.submit(self._look_closer)
        return self._task(self._target.stage(manifest), choice, is_new=is_new)

    def transfer(self, task: SendTask) -> SendTask:
        """Send it; return the task with how that was done in the end, and all that was sent."""
        self._progress.begin("transfer", task.plan.fetch_bytes)
        if task.job.items:
            task = replace(task, choice=self._send(task.job, task.choice))
        return self._all_sent(task)

    def _look_closer(self) -> None:
        """Ask the source, while the target builds, what will be needed later."""
        look = self._source.look
        look.confirmed(look.state())
        self._source.outside_paths()
        self._source.credentials()

    def _manifest(self, *, is_new: bool) -> bytes:
        """Return the source's manifest for this target."""
        if self._known is None:
            self._known = self._ahead.known
        if self._known is None:
            packages = self._source.packages() if is_new else frozenset()
            self._known = self._target.known_there(packages, looks_ahead=True)
        return self._source.manifest(self._known.references)

    def _named(self) -> Choice | None:
        """Return the transport that the user named, if any; raises what it cannot serve."""
        return named(self._settings.transport, send_job(self._ends, self._progress, ()))

    def _task(self, staged: Staged, choice: Choice | None, *, is_new: bool) -> SendTask:
        """Return how to send what a staging tree lacks: by `choice`, or automatically."""
        # Without fetches, do not ask the source: its lock may be held by other pushes.
        items = self._source.items(staged.fetches) if staged.fetches else ()
        job = replace(
            send_job(self._ends, self._progress, items),
            tree=staged.tree,
            token=staged.token,
            rewritten=self._source.rewritten(),
            # Whether the target may have other versions of files that have to be sent.
            has_versions=staged.plan.origin != ORIGIN_NEW or not is_new,
        )
        return SendTask(staged.plan, job, choice or automatic(job), staged.warnings, staged.ruin)

    def _send(self, job: Job, choice: Choice) -> Choice:
        """Send the job, and return how that was done in the end."""
        sent = choice.transport.send(job)
        self._progress.sent_on_wire(sent.wire_bytes)
        self._failed = frozenset(map(os.fsdecode, sent.failed))
        if sent.instead:
            return Choice(StreamTransport(), sent.instead, choice.agent_forwarded)
        return choice

    def _all_sent(self, sent: SendTask) -> SendTask:
        """Return `sent` with the figures of what went ahead of the plan added.

        A file that was rewritten or has changed since went twice: that is one file, and the bytes
        of both.
        """
        ahead = self._ahead.sent
        if ahead is None:
            return sent
        plan = sent.plan._replace(
            origin=ORIGIN_NEW,
            fetch_files=ahead.together_with(sent.job.items),
            fetch_bytes=sent.plan.fetch_bytes + ahead.size_bytes,
            new_bytes=sent.plan.new_bytes + ahead.size_bytes,
        )
        return replace(sent, plan=plan, choice=replace(sent.choice, reason=SENT_AHEAD))

    def verify(self, sent: SendTask) -> None:
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
                    raise self._why_wrong(error, sorted(wrong)) from error
                # They are sent whole: what they could be made from may be wrong.
                again = replace(sent.job, items=items, all_fetches=False, has_versions=False)
                # Stream them: that transport knows of each file whether it arrived.
                self._send(again, replace(sent.choice, transport=StreamTransport()))

    def _why_wrong(self, error: VerificationFailed, wrong: Sequence[bytes]) -> EnvsyncError:
        """Return the error that explains the wrong files.

        The usual cause is a source that changed meanwhile: what it sent was not what it had, even
        if it is the same again by now.
        """
        self._source.require_readable(wrong)
        self._progress.begin("inspect")
        has_changed = self._source.look.changed(self._progress.relay)
        shown = error.details[:DIFFERENCES_SHOWN]
        if has_changed or self._failed.issuperset(error.details):
            return TransferFailed(
                "the source changed during the push; nothing was published",
                hint=Hint("[[push again when it is at rest]]"),
                details=shown,
            )
        error.details = shown
        return error
