"""A push to one server, step by step.

connect -> inspect both ends -> preflight -> plan -> stage -> transfer -> verify
-> publish -> check -> record
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from envsync.agent.messages import PlanFacts, ProcessUse, RecordFacts, SourceState, TargetState
from envsync.conda.outside import LEADS_TO
from envsync.conda.platform_needs import glibc_mismatch
from envsync.errors import (
    ConnectionLost,
    EnvironmentInUse,
    EnvsyncError,
    PreflightRefused,
    TransferFailed,
    VerificationFailed,
)
from envsync.push import preflight
from envsync.push.aftermath import Publication, Reopen, aftermath
from envsync.push.method import MIRROR, REBUILD, Method, choose_method
from envsync.push.pace import OnProgress, Pace
from envsync.push.rebuild import Order, Rebuild, Rebuilt, find_tool, told
from envsync.push.relocated_source import RelocatedSource
from envsync.push.report import ADOPTED, IN_STEP, PLANNED, PUSHED, PushReport
from envsync.push.settings import PushSettings
from envsync.push.source_end import Outlined, SourceEnd
from envsync.push.target_end import How, Staged, TargetEnd
from envsync.ssh.session import Link
from envsync.transport.choice import Choice, choose
from envsync.transport.job import Contents, Item, Job
from envsync.transport.stream import StreamTransport
from envsync.tree import outline
from envsync.tree.manifest import encode

DIFFERENCES_SHOWN = 12
IN_USE_POLL_SECONDS = 2.0
REPAIRS_MAX = 2
SOURCE_ATTEMPTS = 4
SENT_AHEAD = "nothing was there yet, so it was sent while the source was hashed"


class _Sent(NamedTuple):
    """How the tree in staging came to be: sent, or made there."""

    plan: PlanFacts
    transport: str
    transport_reason: str
    rebuilt: Rebuilt | None = None


class Push:
    """One environment to one server. Make one for each; `run` it once."""

    def __init__(
        self,
        settings: PushSettings,
        source: SourceEnd | RelocatedSource,
        target: TargetEnd,
        link: Link | None,
        reopen: Reopen,
        on_progress: OnProgress = lambda _: None,
        started: float | None = None,
    ) -> None:
        """`reopen` connects to the target once more, for when an answer was lost.

        `started` is the monotonic second at which connecting began.
        """
        self._settings = settings
        self._source = source
        self._target = target
        self._link = link
        self._reopen = reopen
        began = time.monotonic() if started is None else started
        self._pace = Pace(target.server, on_progress, began)
        self._wire_bytes: int | None = None
        self._sent_otherwise: frozenset[str] = frozenset()
        self._late_warnings: tuple[str, ...] = ()
        self._ahead: Job | None = None
        self._is_shared = True
        self._share_warnings: tuple[str, ...] = ()
        self._method = Method(MIRROR, "")
        self._insisted: tuple[str, ...] = ()

    def run(self) -> PushReport:
        """Push, and report. Raises the `EnvsyncError` that ended it, `server` filled in."""
        try:
            return self._run()
        except EnvsyncError as error:
            error.server = error.server or self._target.server
            raise

    def _run(self) -> PushReport:
        self._pace.begin("inspect")
        lock = not self._settings.dry_run
        target = self._target.inspect(
            lock=lock, source=self._source.place, on_progress=self._pace.relay
        )
        self._settle_share(target)
        if lock and self._source.is_being_hashed():
            self._use_the_wait(target)
        source = self._source.state()
        for _ in range(SOURCE_ATTEMPTS):
            preflight.require_source(source)
            target = self._as_insisted(source, target)
            # A rebuild takes long, and has to know before it what it is for.
            if not self._is_rebuilt(source, target) or self._source.confirmed(source):
                finish = self._prepare(source, target)
                if self._source.confirmed(source):
                    return finish()
            self._pace.begin("inspect")
            source = self._source.renewed(source)
        raise TransferFailed(
            "the source goes on changing; nothing was published",
            hint="push again when it is at rest",
        )

    def _settle_share(self, target: TargetState) -> None:
        """Who shares it there is settled before anything is built, and before it is shown."""
        share = self._settings.share
        if share is not None:
            preflight.refuse(target.findings)
            self._is_shared, self._share_warnings = self._target.share(share)

    def _use_the_wait(self, target: TargetState) -> None:
        """While the source is hashed: send what a target that has nothing will need.

        Any other reads what it will be asked about.
        """
        has_nothing = not (target.exists or target.generations or target.held)
        may_stream = self._settings.transport in ("auto", StreamTransport.name)
        if not (has_nothing and may_stream) or self._settings.method == REBUILD:
            self._target.prepare(self._settings.keep)
            return
        with self._source.hashing_while_sent() as contents:
            outlined = self._source.outline()
            if outlined is not None:
                self._send_ahead(outlined, target, contents)
        if self._ahead is not None:
            self._target.settle(on_progress=self._pace.relay)

    def _as_insisted(self, source: SourceState, target: TargetState) -> TargetState:
        if self._settings.force_platform:
            target, differs = preflight.insisted(source, target)
            self._insisted = differs or self._insisted
        return target

    def _is_rebuilt(self, source: SourceState, target: TargetState) -> bool:
        """Settle on a method; whether it is the one that sends nothing."""
        self._method = choose_method(self._settings.method, source.platform, target.platform)
        return self._method.name == REBUILD

    def _send_ahead(self, outlined: Outlined, target: TargetState, contents: Contents) -> None:
        target = self._as_insisted(outlined.state, target)
        if self._is_rebuilt(outlined.state, target):
            return
        preflight.require_source(outlined.state)
        preflight.require_target(outlined.state, target)
        staged = self._target.begin(encode(outlined.manifest), self._settings.keep)
        if staged is None:
            return
        job = self._job(staged, tuple(outline.files(outlined.manifest)))
        job = replace(job, contents=contents)
        self._pace.begin("transfer", job.size_bytes)
        self._send(job, Choice(StreamTransport(), SENT_AHEAD))
        # What was not right is found by the plan, and sent like anything else.
        self._sent_otherwise = frozenset()
        self._ahead = job
        self._pace.begin("inspect")

    def _prepare(self, source: SourceState, target: TargetState) -> Callable[[], PushReport]:
        """Everything up to the switch; what is left to be done once the source is confirmed."""
        self._pace.begin("preflight")
        preflight.require_target(source, target, self._method.name)
        self._refuse_the_same_place(target)
        if self._method.name != REBUILD:
            source = self._source.mirrored(source)
        if self._is_shared and preflight.is_in_step(source, target, self._method.name):
            return partial(self._in_step, source, target)
        if self._settings.dry_run:
            return partial(self._planned, source, target)
        self._require_permission(source, target)
        if self._method.name == REBUILD:
            return partial(self._publish, source, target, self._make_anew(source, target))
        self._require_inside()
        return partial(self._publish, source, target, self._stage_and_send(source))

    def _refuse_the_same_place(self, target: TargetState) -> None:
        if self._source.sees(target.nonce):
            raise PreflightRefused(
                "it is the same directory as the source, on a filesystem that both share",
                hint="nothing to push: the environment is there already",
            )

    def _require_permission(self, source: SourceState, target: TargetState) -> None:
        """Preflight's decisions; where packages differ, the error names them."""
        settings = self._settings
        try:
            preflight.require_permission(settings, source, target)
        except EnvsyncError as error:
            command = f"`envsync diff {settings.name_there} {self._target.server}`"
            error.hint = error.hint.replace("`envsync diff`", command)
            is_other = error.code in ("drift", "not-fast-forward") and target.exists
            if is_other and not error.details:
                error.details = self._differences(target)
            raise

    def _require_inside(self) -> None:
        """Refuse what leads out of the environment, where `outside: fail` says so."""
        if self._settings.outside == "fail" and self._source.outside():
            found = self._outside()
            raise PreflightRefused(
                f"{len(found)} paths lead out of the environment",
                details=found[:DIFFERENCES_SHOWN],
                hint="install without --editable, or set `outside: warn` for it",
            )

    def _differences(self, target: TargetState) -> tuple[str, ...]:
        """What stands there against what was published, or against the source."""
        manifest = b""
        if target.record is None or not preflight.has_drifted(target):
            manifest = self._source.manifest(self._target.references())
        try:
            found = self._target.differences(manifest, paths_max=DIFFERENCES_SHOWN)
        except VerificationFailed as error:
            return (error.message,)
        counts = f"{found.added} files added, {found.removed} removed, {found.changed} changed"
        lines = found.packages or (*found.groups, *found.paths)
        shown = lines[:DIFFERENCES_SHOWN]
        more = (f"and {len(lines) - len(shown)} more",) if len(lines) > len(shown) else ()
        return (counts, *shown, *more)

    def _in_step(self, source: SourceState, target: TargetState) -> PushReport:
        """The content is there. Where no record says so, write one."""
        record, outcome = target.record, IN_STEP
        if preflight.has_drifted(target) and not self._settings.dry_run:
            record, outcome = self._target.adopt(self._settings, source.revision), ADOPTED
        self._source.remember(source.revision)
        return replace(self._report(outcome, source, target), record=record)

    def _planned(self, source: SourceState, target: TargetState) -> PushReport:
        self._pace.begin("plan")
        refused = None
        try:
            self._require_permission(source, target)
        except EnvsyncError as error:
            error.server = self._target.server
            refused = error
        if self._method.name == REBUILD:
            tool = told(find_tool(self._target.ask, self._target.prefix))
            return replace(self._report(PLANNED, source, target), tool=tool, error=refused)
        manifest = self._source.manifest(self._target.references())
        plan = self._target.dry_plan(manifest, self._settings.keep)
        choice = self._choose(self._job(_unstaged(plan), ()))
        return replace(
            self._report(PLANNED, source, target),
            plan=plan,
            transport=choice.transport.name,
            transport_reason=choice.reason,
            error=refused,
        )

    def _make_anew(self, source: SourceState, target: TargetState) -> _Sent:
        """Nothing is sent but what the environment asks for."""
        self._pace.begin("rebuild")
        settings = self._settings
        other_platform = preflight.is_other_platform(source, target)
        order = Order(self._target.prefix, settings.keep, settings.from_history, other_platform)
        requirements = self._source.requirements()
        rebuilt = Rebuild(self._target.ask, requirements, order, self._pace.relay).run()
        self._late_warnings = rebuilt.warnings
        self._pace.begin("verify")
        self._target.complete(on_progress=self._pace.relay)
        return _Sent(rebuilt.plan, "", "", rebuilt)

    def _stage_and_send(self, source: SourceState) -> _Sent:
        self._pace.begin("stage")
        manifest = self._source.manifest(self._target.references())
        threading.Thread(target=self._look_closer, args=[source], daemon=True).start()
        staged = self._target.stage(manifest, self._settings.keep, on_progress=self._pace.relay)
        self._late_warnings = staged.warnings
        self._pace.begin("transfer", staged.plan.fetch_bytes)
        job = self._job(staged, self._source.items(staged.fetches))
        job = replace(job, elsewhere=self._source.elsewhere())
        choice = self._choose(job)
        if job.items:
            self._send(job, choice)
        self._pace.begin("verify")
        self._verify(job, choice)
        return self._all_sent(staged.plan, choice)

    def _all_sent(self, plan: PlanFacts, choice: Choice) -> _Sent:
        """What was sent, with what went ahead of the plan."""
        ahead = self._ahead
        if ahead is None:
            return _Sent(plan, choice.transport.name, choice.reason)
        plan = plan._replace(
            origin="new",
            fetch_files=plan.fetch_files + len(ahead.items),
            fetch_bytes=plan.fetch_bytes + ahead.size_bytes,
            new_bytes=plan.new_bytes + ahead.size_bytes,
        )
        return _Sent(plan, choice.transport.name, SENT_AHEAD)

    def _look_closer(self, source: SourceState) -> None:
        """Ask while the target builds what will be asked later; who needs it meets the error."""
        with contextlib.suppress(EnvsyncError, OSError):
            self._source.confirmed(source)
            self._source.outside()
            self._source.credentials()

    def _job(self, staged: Staged, items: tuple[Item, ...]) -> Job:
        return Job(
            link=self._link,
            source_path=self._source.path,
            items=items,
            all_fetches=True,
            tree=staged.tree,
            token=staged.token,
            python=self._target.python,
            ask=self._target.ask,
            contents=self._source.contents,
            codecs=self._target.codecs,
            limit_bits_per_second=self._settings.limit_bits_per_second,
            on_sent=self._pace.sent,
            relayed=self._source.relayed,
        )

    def _choose(self, job: Job) -> Choice:
        return choose(self._settings.transport, job)

    def _send(self, job: Job, choice: Choice) -> None:
        sent = choice.transport.send(job)
        if sent.wire_bytes is not None:
            self._wire_bytes = (self._wire_bytes or 0) + sent.wire_bytes
        self._sent_otherwise = frozenset(map(os.fsdecode, sent.failed))

    def _verify(self, job: Job, choice: Choice) -> None:
        """Hash what arrived; what is wrong is sent once more, then given up."""
        for repair in range(REPAIRS_MAX):
            try:
                self._target.complete(on_progress=self._pace.relay)
                return
            except VerificationFailed as error:
                wrong = {path.encode("utf-8", "surrogateescape") for path in error.details}
                items = tuple(item for item in job.items if item[0] in wrong)
                if repair + 1 == REPAIRS_MAX or not items:
                    raise self._why_wrong(error) from error
                self._send(_only(job, items), choice)

    def _why_wrong(self, error: VerificationFailed) -> EnvsyncError:
        """A source that changed meanwhile is the usual cause, and is told as such.

        What it sent was not what it had, even where it is the same again by now.
        """
        self._source.require_readable(
            [path.encode("utf-8", "surrogateescape") for path in error.details]
        )
        if self._source.changed() or self._sent_otherwise.issuperset(error.details):
            return TransferFailed(
                "the source changed during the push; nothing was published",
                hint="push again when it is at rest",
                details=error.details[:DIFFERENCES_SHOWN],
            )
        error.details = error.details[:DIFFERENCES_SHOWN]
        return error

    def _publish(self, source: SourceState, target: TargetState, sent: _Sent) -> PushReport:
        self._pace.begin("publish")
        processes = self._await_unused()
        # Before the switch: whoever dies after it must find its own version there again.
        self._source.remember(source.revision)
        record = self._switch(source, target, sent)
        overwritten = ""
        if preflight.has_drifted(target):
            overwritten = "what stood there is kept as a generation"
        report = replace(
            self._report(PUSHED, source, target),
            plan=sent.plan,
            transport=sent.transport,
            transport_reason=sent.transport_reason,
            record=record,
            in_use=processes,
            overwritten=overwritten,
        )
        made = sent.rebuilt
        if made is None:
            return report
        return replace(report, totals=made.totals, tool=made.tool, changes=made.changes)

    def _switch(self, source: SourceState, target: TargetState, sent: _Sent) -> RecordFacts:
        """Publish; where the answer is lost, the target's record tells what became of it."""
        changes = () if sent.rebuilt is None else sent.rebuilt.changes
        how = How(self._method.name, sent.transport, changes)
        try:
            return self._target.publish(
                self._settings, source.revision, how, on_progress=self._pace.relay
            )
        except ConnectionLost as lost:
            self._pace.begin("reconnect")
            settings = self._settings
            seconds = settings.check_timeout_seconds if settings.check else 0.0
            publication = Publication(settings.name_there, source.revision, target, seconds)
            found = aftermath(lost, self._reopen, publication)
            self._late_warnings += found.warnings
            return found.record

    def _await_unused(self) -> tuple[ProcessUse, ...]:
        """The processes that use the environment, as `in_use` decides about them."""
        deadline = time.monotonic() + self._settings.in_use_wait_seconds
        while True:
            processes = self._target.using()
            if not processes or self._settings.in_use == "publish":
                return processes
            if self._settings.in_use == "fail" or time.monotonic() > deadline:
                raise EnvironmentInUse(
                    f"{len(processes)} processes use the environment there",
                    details=[f"{use.pid}  {use.command}" for use in processes[:DIFFERENCES_SHOWN]],
                    hint="push again when they are done, or set `in_use: publish`: "
                    "what they have open stays as it is",
                )
            time.sleep(IN_USE_POLL_SECONDS)

    def _report(self, outcome: str, source: SourceState, target: TargetState) -> PushReport:
        """What every outcome has in common; the caller adds the rest."""
        self._pace.begin("done")
        return PushReport(
            server=self._target.server,
            environment=self._settings.name_there,
            outcome=outcome,
            revision=source.revision,
            totals=source.totals,
            method=self._method.name,
            method_reason=self._method.reason,
            wire_bytes=self._wire_bytes,
            seconds=self._pace.total_seconds(),
            step_seconds=self._pace.step_seconds(),
            warnings=self._warnings(outcome, source, target),
            recovered=target.recovered,
            share="" if self._settings.share is None else str(self._settings.share),
        )

    def _warnings(self, outcome: str, source: SourceState, target: TargetState) -> tuple[str, ...]:
        told: tuple[str, ...] = ()
        if outcome not in (IN_STEP, ADOPTED) and self._method.name != REBUILD:
            told = (*self._outside(), *self._source.credentials(), *self._glibc(source, target))
        found = preflight.warnings(source, target, self._method.name)
        return (*found, *self._insisted, *told, *self._share_warnings, *self._late_warnings)

    def _outside(self) -> tuple[str, ...]:
        """What leads out of the environment, and whether there is something on the target."""
        lines = self._source.outside()
        paths = [line.rpartition(LEADS_TO)[2] for line in lines]
        absolute = [path for path in paths if path.startswith("/")]
        exists = dict(zip(absolute, self._target.existing(absolute), strict=True))
        told = {True: ", which is there", False: ", which is not there"}
        return tuple(
            line + (told[exists[path]] if path in exists else "")
            for line, path in zip(lines, paths, strict=True)
        )

    def _glibc(self, source: SourceState, target: TargetState) -> tuple[str, ...]:
        """Where the target's C library is older: whether what is sent needs a newer one."""
        if not preflight.has_older_libc(source, target):
            return ()
        path, needed = self._source.newest_glibc()
        message = glibc_mismatch(path, needed, target.platform.libc_version)
        return () if message is None else (message,)


def _only(job: Job, items: tuple[Item, ...]) -> Job:
    return replace(job, items=items, all_fetches=False)


def _unstaged(plan: PlanFacts) -> Staged:
    """For a dry run: nothing was staged, so there is nothing to fetch yet."""
    return Staged(plan=plan, fetches=(), tree="", token="")
