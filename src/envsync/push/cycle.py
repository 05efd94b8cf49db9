"""A push to one server, step by step.

connect -> inspect both ends -> preflight -> plan -> stage -> transfer -> verify
-> publish -> check -> record
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from envsync.agent.wire.build_operations import Check, Publication, PublishFacts
from envsync.agent.wire.messages import SourceState, TargetState
from envsync.errors import ConnectionLost, EnvsyncError, Hint, TargetDrifted, TransferFailed
from envsync.push.dry_run import planned
from envsync.push.ends.both_ends import BothEnds
from envsync.push.ends.command_locks import CommandLocks
from envsync.push.preflight import preflight, refusal_hints, replacement
from envsync.push.preflight.end_checks import EndChecks
from envsync.push.preflight.in_use import await_unused, require_unused, require_visible
from envsync.push.request.method import MIRROR
from envsync.push.steps.decision import Decision, MethodChoice, StagingResult, method_for
from envsync.push.steps.progress import ProgressTracker
from envsync.push.steps.report import ADOPTED, IN_STEP, PLANNED, PUSHED, PushReport
from envsync.push.steps.reporting import About, Reporting, unremembered
from envsync.push.steps.send_ahead import SendAhead
from envsync.push.steps.sending import SendStep
from envsync.push.switches.in_doubt import PendingPublication, Reopen, resolve_publication

SOURCE_ATTEMPTS = 4


class Push:
    """A push of one environment to one server. Make one for each server, and `run` it once."""

    def __init__(
        self,
        ends: BothEnds,
        reopen: Reopen,
        progress: ProgressTracker,
        command_locks: CommandLocks,
    ) -> None:
        """`reopen` connects to the target again after an answer was lost.

        `command_locks` covers all pushes of the same command, some of which may be to the same
        place.
        """
        self._ends = ends
        self._settings, self._source, self._target = ends
        self._look = ends.source.look
        self._reopen = reopen
        self._command_locks = command_locks
        self._progress = progress
        self._target.on_progress = progress.relay
        self._checks = EndChecks(ends)
        # Asks the source ahead of need. Whoever needs the answer asks again, and meets the errors.
        self._askers = ThreadPoolExecutor(2, thread_name_prefix="ask ahead")
        self._ahead = SendAhead(ends, progress, self._askers)
        self._send_step = SendStep(ends, progress, self._ahead, self._askers)
        self._notes = Reporting(ends, progress)

    def run(self) -> PushReport:
        """Push and report. Raises the `EnvsyncError` that ended it, with `server` filled in."""
        try:
            return self._run()
        except EnvsyncError as error:
            error.server = error.server or self._target.server
            refusal_hints.complete(error, self._ends)
            raise
        finally:
            # Only then may the source's helper processes be ended.
            self._askers.shutdown()

    def _run(self) -> PushReport:
        target = self._inspect_target()
        share_fits = self._apply_share(target)
        if not self._settings.dry_run and self._look.is_being_hashed():
            self._ahead.use_the_wait(target)
        source = self._look.state()
        for _ in range(SOURCE_ATTEMPTS):
            report = self._push(source, target, share_fits)
            if report is not None:
                return report
            self._progress.begin("inspect")
            source = self._look.renewed(source)
        raise TransferFailed(
            "the source keeps changing; nothing was published",
            hint=Hint("[[push again when it is at rest]]"),
        )

    def _push(
        self, source: SourceState, target: TargetState, share_fits: bool
    ) -> PushReport | None:
        """Push this version of the source. Returns None, with nothing published, if it changed."""
        preflight.require_source(source)
        choice = method_for(self._settings, source, target)
        # A rebuild takes long, so whether the source has changed is asked before it, too.
        if choice.method.is_rebuild and not self._look.confirmed(source):
            return None
        decision = self._preflight(source, choice, share_fits)
        if replacement.is_foreign(source, decision.target):
            self._target.keep_live()
        staging = self._stage(decision) if decision.outcome == PUSHED else None
        if not self._look.confirmed(source):
            return None
        if staging is not None:
            return self._publish(decision, staging)
        return self._plan(decision) if decision.outcome == PLANNED else self._in_step(decision)

    def _inspect_target(self) -> TargetState:
        """Return the target's state, and lock the target unless this is a dry run."""
        self._progress.begin("inspect")
        lock = not self._settings.dry_run

        def look() -> TargetState:
            return self._target.inspect(
                lock=lock,
                source=self._look.identity,
                looks_ahead=lock and self._look.is_changed,
            )

        return self._command_locks.await_lock(self._target, look)

    def _apply_share(self, target: TargetState) -> bool:
        """Have the target share the environment as it has to, before anything is built or shown.

        Returns whether the live version is shared like that already, which may be with nobody.
        """
        share = self._settings.share
        preflight.require_shared(target, share)
        if share is None and not preflight.is_shared(target):
            return True
        preflight.refuse(target.findings)
        live = self._target.share(share)
        self._notes.warn(About.SHARE, live.warnings)
        return live.is_shared

    def _preflight(self, source: SourceState, choice: MethodChoice, share_fits: bool) -> Decision:
        """Refuse what is not allowed, and decide what the outcome of the push will be."""
        self._progress.begin("preflight")
        self._notes.warn(About.INSISTED, choice.insisted)
        method, target = choice.method, choice.target
        is_archive = bool(self._settings.archive)
        preflight.require_target(source, target, method.name, is_archive=is_archive)
        self._checks.refuse_the_same_place(target)
        if not method.is_rebuild:
            source = self._source.mirrored(source)
        if share_fits and replacement.is_in_step(source, target, method.name):
            return Decision(method, source, target, IN_STEP)
        if self._settings.dry_run:
            return Decision(method, source, target, PLANNED)
        self._checks.require_permission(source, target, is_rebuild=method.is_rebuild)
        require_visible(target, self._settings)
        if self._settings.in_use == "fail":
            # Staging may take the version to which one could have gone back.
            require_unused(self._target.using(), self._settings)
        return Decision(method, source, target, PUSHED)

    def _stage(self, decision: Decision) -> StagingResult:
        """Have the new version made beside the live one, complete and verified."""
        return self._rebuild(decision) if decision.method.is_rebuild else self._send(decision)

    def _send(self, decision: Decision) -> StagingResult:
        """Send what the target lacks: the plan of it is made there."""
        self._checks.require_base_starts(decision.source, decision.target)
        self._checks.require_inside()
        staged = self._send_step.stage(is_new=not decision.target.exists)
        self._notes.warn(About.STAGED, staged.warnings)
        sent = self._send_step.transfer(staged)
        self._send_step.verify(sent)
        totals, choice = decision.source.totals, sent.choice
        return StagingResult(
            sent.plan, totals, choice.transport.name, choice.reason, choice.agent_forwarded
        )

    def _rebuild(self, decision: Decision) -> StagingResult:
        """Send only the environment's requirements, and have the target's own tools build it."""
        from envsync.push.rebuilding.rebuild import Rebuild
        from envsync.push.rebuilding.relaxation import PinPolicy

        self._progress.begin("rebuild")
        target, requirements = self._target, self._source.requirements()
        other_platform = preflight.other_platform(decision.source, decision.target)
        policy = PinPolicy(other_platform, self._settings.from_history)
        progress = self._progress
        rebuild = Rebuild(
            target.ask, target.prefix, requirements, policy, progress.relay, progress.runs
        )
        rebuilt = rebuild.run()
        self._notes.warn(About.STAGED, rebuilt.warnings)
        self._progress.begin("verify")
        self._target.complete()
        return StagingResult(
            rebuilt.plan, rebuilt.totals, tool=rebuilt.tool, changes=rebuilt.changes
        )

    def _publish(self, decision: Decision, staging: StagingResult) -> PushReport:
        """Have the target make the new version the live one, check it, and record it."""
        self._progress.begin("publish")
        source, target = decision.source, decision.target
        if not decision.method.is_rebuild:
            self._notes.warn(About.ENDS, self._checks.warnings(source, target))
        processes = await_unused(self._target, self._settings, self._progress.waiting)
        # Remember the revision before the switch: if this process dies after it, the next push must
        # recognize the version on the target as its own.
        self._remember(source, source.environment_id)
        published = self._switch(decision, staging)
        self._notes.warn(About.CHECK, published.warnings)
        is_kept = replacement.has_drifted(target) or replacement.is_foreign(source, target)
        return replace(
            self._notes.report(decision),
            **staging._asdict(),
            record=published.record,
            wants_spare=published.wants_spare,
            in_use=processes,
            overwritten="the replaced version is kept as a generation" if is_kept else "",
        )

    def _switch(self, decision: Decision, staging: StagingResult) -> PublishFacts:
        """Publish. If the answer is lost, find out from the target's record what became of it."""
        settings, source = self._settings, decision.source
        method, transport = decision.method.name, staging.transport
        try:
            return self._target.publish(
                self._publication(source, method, transport, staging.changes)
            )
        except ConnectionLost as lost:
            self._progress.begin("reconnect")
            seconds = settings.check_timeout_seconds if settings.check else 0.0
            pending = PendingPublication(
                settings.name_there, source.source_revision, decision.target, seconds
            )
            record, warnings = resolve_publication(lost, self._reopen, pending)
            self._notes.warn(About.SWITCH, warnings)
            return PublishFacts(record, wants_spare=False)
        except TargetDrifted as error:
            self._checks.name_changes(error, decision.target)
            raise

    def _publication(
        self, source: SourceState, method: str, transport: str = "", changes: tuple[str, ...] = ()
    ) -> Publication:
        settings = self._settings
        return Publication(
            source_revision=source.source_revision,
            source=settings.source,
            who=settings.who,
            method=method,
            transport=transport,
            check=Check(settings.check, settings.check_timeout_seconds),
            retry_held=settings.retry_held,
            changes=changes,
            environment_id=source.environment_id,
        )

    def _remember(self, source: SourceState, environment_id: str) -> None:
        """Have the source note that it has had the version; warn if that could not be noted.

        Nothing is lost if the target's record has the source's `environment_id`.
        """
        problem = self._look.remember(source.source_revision)
        if problem and not (source.environment_id and environment_id == source.environment_id):
            self._notes.warn(About.HISTORY, (unremembered(self._look.server, problem),))

    def _plan(self, decision: Decision) -> PushReport:
        self._progress.begin("plan")
        return planned(self._ends, self._checks, self._send_step, self._notes, decision)

    def _in_step(self, decision: Decision) -> PushReport:
        """Report that the target has the content already. Write a record if none says so."""
        source, target = decision.source, decision.target
        if replacement.has_drifted(target):
            if self._settings.dry_run:
                return self._notes.report(decision)
            self._remember(source, source.environment_id)
            record = self._target.adopt(self._publication(source, MIRROR))
            return replace(self._notes.report(decision), outcome=ADOPTED, record=record)
        self._remember(source, target.record.environment_id if target.record else "")
        return replace(self._notes.report(decision), record=target.record)
