"""A push to one server, step by step.

connect -> inspect both ends -> preflight -> plan -> stage -> transfer -> verify
-> publish -> check -> record
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from envsync.agent.server.filesystem import Space
from envsync.agent.trees.storage import require_room
from envsync.agent.wire.messages import ProcessUse, PublishFacts, SourceState, TargetState
from envsync.errors import ConnectionLost, EnvsyncError, TargetDrifted, TransferFailed
from envsync.push.ends.both_ends import BothEnds
from envsync.push.ends.command_locks import CommandLocks
from envsync.push.ends.target_end import Provenance
from envsync.push.preflight import preflight, refusal_hints, replacement
from envsync.push.preflight.end_checks import EndChecks
from envsync.push.preflight.in_use import await_unused, require_unused
from envsync.push.request.method import REBUILD
from envsync.push.steps.decision import Decision, MethodChoice, StagingResult, method_for
from envsync.push.steps.progress import ProgressTracker
from envsync.push.steps.report import ADOPTED, IN_STEP, PLANNED, PUSHED, PushReport
from envsync.push.steps.reporting import About, Reporting
from envsync.push.steps.sending import SendStep
from envsync.push.switches.in_doubt import PendingPublication, Reopen, resolve_publication
from envsync.transport.names import AUTO, STREAM
from envsync.tree.manifest import Manifest

SOURCE_ATTEMPTS = 4


class Push:
    """A push of one environment to one server. Make one for each server, and `run` it once."""

    def __init__(
        self,
        ends: BothEnds,
        reopen: Reopen,
        progress: ProgressTracker | None = None,
        command_locks: CommandLocks | None = None,
    ) -> None:
        """`reopen` connects to the target again after an answer was lost.

        `command_locks` covers all pushes of the same command, some of which may be to the same
        place.
        """
        self._ends = ends
        self._settings, self._source, self._target = ends
        self._look = ends.source.look
        self._reopen = reopen
        self._command_locks = command_locks or CommandLocks(())
        self._progress = progress = progress or ProgressTracker(ends.target.server)
        self._target.on_progress = progress.relay
        self._checks = EndChecks(ends)
        self._sending = SendStep(ends, progress)
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
            self._sending.end()

    def _run(self) -> PushReport:
        target = self._inspect_target()
        share_fits = self._settle_share(target)
        if not self._settings.dry_run and self._look.is_being_hashed():
            self._use_the_wait(target)
        source = self._look.state()
        for _ in range(SOURCE_ATTEMPTS):
            preflight.require_source(source)
            way = method_for(self._settings, source, target)
            report = self._push(source, way, share_fits)
            if report is not None:
                return report
            self._progress.begin("inspect")
            source = self._look.renewed(source)
        raise TransferFailed(
            "the source keeps changing; nothing was published",
            hint="push again when it is at rest",
        )

    def _push(self, source: SourceState, way: MethodChoice, share_fits: bool) -> PushReport | None:
        """Push this version of the source. Returns None, with nothing published, if it changed."""
        # A rebuild takes long, so whether the source has changed is asked before it, too.
        if way.method.is_rebuild and not self._look.confirmed(source):
            return None
        decision = self._preflight(source, way, share_fits)
        if replacement.is_foreign(source, decision.target):
            self._target.keep_live()
        if decision.outcome != PUSHED:
            conclude = self._planned if decision.outcome == PLANNED else self._in_step
            return conclude(decision) if self._look.confirmed(source) else None
        brought = self._rebuild(decision) if way.method.is_rebuild else self._send(decision)
        return self._publish(decision, brought) if self._look.confirmed(source) else None

    def _inspect_target(self) -> TargetState:
        """Return the target's state, and lock the target unless this is a dry run."""
        self._progress.begin("inspect")
        lock = not self._settings.dry_run

        def look() -> TargetState:
            return self._target.inspect(
                lock=lock,
                source=self._look.place,
                looks_ahead=lock and self._look.is_changed,
            )

        return self._command_locks.await_lock(self._target, look)

    def _settle_share(self, target: TargetState) -> bool:
        """Settle who shares the environment on the target, before anything is built or shown.

        Returns whether the live version is shared like that already, which may be with nobody.
        """
        share = self._settings.share
        preflight.require_shared(target, share)
        if share is None and not preflight.is_shared(target):
            return True
        preflight.refuse(target.findings)
        told = self._target.share(share)
        self._notes.warn(About.SHARE, told.warnings)
        return told.is_shared

    def _use_the_wait(self, target: TargetState) -> None:
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
            self._sending.go_ahead(self._outline_for(target), contents)
        # Confirm the source, once it is hashed, while the target looks at what has arrived.
        self._sending.look_meanwhile(lambda: self._look.confirmed(self._look.state()))
        self._sending.settle()

    def _outline_for(self, target: TargetState) -> Manifest | None:
        """Return what can be sent before the source is hashed; None if nothing can.

        Raises what can be refused already.
        """
        outlined = self._source.outline()
        if outlined is None:
            return None
        way = method_for(self._settings, outlined.state, target)
        if way.method.is_rebuild:
            return None
        preflight.require_source(outlined.state)
        is_archive = bool(self._settings.archive)
        preflight.require_target(outlined.state, way.target, is_archive=is_archive)
        return outlined.manifest

    def _preflight(self, source: SourceState, way: MethodChoice, share_fits: bool) -> Decision:
        """Refuse what is not allowed, and decide what the outcome of the push will be."""
        self._progress.begin("preflight")
        self._notes.warn(About.INSISTED, way.insisted)
        method, target = way.method, way.target
        is_archive = bool(self._settings.archive)
        preflight.require_target(source, target, method.name, is_archive=is_archive)
        self._checks.refuse_the_same_place(target)
        if not way.method.is_rebuild:
            source = self._source.answers.mirrored(source)
        if share_fits and replacement.is_in_step(source, target, method.name):
            return Decision(method, source, target, IN_STEP)
        if self._settings.dry_run:
            return Decision(method, source, target, PLANNED)
        self._checks.require_permission(source, target)
        if self._settings.in_use == "fail":
            # Staging may take the version to which one could have gone back.
            require_unused(self._target.using(), self._settings)
        return Decision(method, source, target, PUSHED)

    def _send(self, decision: Decision) -> StagingResult:
        """Send what the target lacks."""
        self._checks.require_inside()
        sent = self._sending.send(is_new=not decision.target.exists)
        self._notes.warn(About.STAGED, sent.warnings)
        self._sending.verify(sent)
        totals, choice = decision.source.totals, sent.choice
        return StagingResult(
            sent.plan, totals, choice.transport.name, choice.reason, choice.agent_forwarded
        )

    def _rebuild(self, decision: Decision) -> StagingResult:
        """Send only the environment's requirements, and have the target's own tools build it."""
        from envsync.push.rebuilding.rebuild import Rebuild, RebuildRequest

        self._progress.begin("rebuild")
        settings = self._settings
        other_platform = preflight.other_platform(decision.source, decision.target)
        request = RebuildRequest(self._target.prefix, settings.from_history, other_platform)
        requirements = self._source.answers.requirements()
        made = Rebuild(self._target.ask, requirements, request, self._progress.relay).run()
        self._notes.warn(About.STAGED, made.warnings)
        self._progress.begin("verify")
        self._target.complete()
        return StagingResult(made.plan, made.totals, tool=made.tool, changes=made.changes)

    def _publish(self, decision: Decision, brought: StagingResult) -> PushReport:
        self._progress.begin("publish")
        source, target = decision.source, decision.target
        if not decision.method.is_rebuild:
            self._notes.warn(About.ENDS, self._checks.warnings(source, target))
        processes = await_unused(self._target, self._settings, self._progress.wait)
        self._progress.begin("publish")
        # Remember the revision before the switch: if this process dies after it, the next push must
        # recognize the version on the target as its own.
        self._notes.remember(source, source.environment_id)
        published = self._switch(decision, brought)
        is_kept = replacement.has_drifted(target) or replacement.is_foreign(source, target)
        return replace(
            self._notes.report(decision),
            **brought._asdict(),
            record=published.record,
            wants_spare=published.wants_spare,
            in_use=processes,
            overwritten="the replaced version is kept as a generation" if is_kept else "",
        )

    def _switch(self, decision: Decision, brought: StagingResult) -> PublishFacts:
        """Publish. If the answer is lost, find out from the target's record what became of it."""
        settings, revision = self._settings, decision.source.source_revision
        provenance = Provenance(
            decision.method.name,
            brought.transport,
            brought.changes,
            environment_id=decision.source.environment_id,
        )
        try:
            return self._target.publish(settings, revision, provenance)
        except ConnectionLost as lost:
            self._progress.begin("reconnect")
            seconds = settings.check_timeout_seconds if settings.check else 0.0
            pending = PendingPublication(settings.name_there, revision, decision.target, seconds)
            found = resolve_publication(lost, self._reopen, pending)
            self._notes.warn(About.SWITCH, found.warnings)
            return PublishFacts(found.record, wants_spare=False)
        except TargetDrifted as error:
            self._checks.name_changes(error, decision.target)
            raise

    def _in_step(self, decision: Decision) -> PushReport:
        """Report that the target has the content already. Write a record if none says so."""
        source, target = decision.source, decision.target
        if replacement.has_drifted(target) and not self._settings.dry_run:
            self._notes.remember(source, source.environment_id)
            record = self._target.adopt(self._settings, source)
            return replace(self._notes.report(decision), outcome=ADOPTED, record=record)
        self._notes.remember(source, target.record.environment_id if target.record else "")
        return replace(self._notes.report(decision), record=target.record)

    def _planned(self, decision: Decision) -> PushReport:
        """Report what a push would do, and what would be refused first."""
        self._progress.begin("plan")
        processes = self._target.using()
        plan = self._plan_rebuild if decision.method.is_rebuild else self._plan_sending
        return replace(plan(decision, processes), in_use=processes)

    def _plan_rebuild(self, decision: Decision, processes: Sequence[ProcessUse]) -> PushReport:
        from envsync.push.rebuilding.rebuild import find_tool, tool_label

        other_platform = preflight.other_platform(decision.source, decision.target)
        tool = tool_label(find_tool(self._target.ask, self._target.prefix, other_platform))
        refused = self._refused(decision, processes)
        return replace(self._notes.report(decision), tool=tool, error=refused)

    def _plan_sending(self, decision: Decision, processes: Sequence[ProcessUse]) -> PushReport:
        planned = self._sending.planned(is_new=not decision.target.exists)
        self._notes.warn(About.STAGED, planned.warnings)
        self._notes.warn(About.ENDS, self._checks.warnings(decision.source, decision.target))
        plan, choice = planned.plan, planned.choice
        free = Space(decision.target.free_bytes, decision.target.free_inodes)
        new_files = plan.fetch_files + plan.copy_files
        room = partial(require_room, free, plan.new_bytes, new_files)
        refused = self._refused(decision, processes, self._checks.require_inside, room)
        return replace(
            self._notes.report(decision),
            plan=plan,
            transport=choice.transport.name,
            transport_reason=choice.reason,
            agent_forwarded=choice.agent_forwarded,
            predicted_wire_bytes=planned.wire_bytes,
            error=refused,
        )

    def _refused(
        self,
        decision: Decision,
        processes: Sequence[ProcessUse],
        *requirements: Callable[[], None],
    ) -> EnvsyncError | None:
        """Return the first error that a push would raise, for a dry run's report; else None."""
        try:
            self._checks.require_permission(decision.source, decision.target)
            require_unused(processes, self._settings)
            for require in requirements:
                require()
        except EnvsyncError as error:
            error.server = self._target.server
            return error
        return None
