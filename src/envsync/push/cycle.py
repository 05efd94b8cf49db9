"""A push to one server, step by step.

connect -> inspect both ends -> preflight -> plan -> stage -> transfer -> verify
-> publish -> check -> record
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from envsync.agent.server.filesystem import Space
from envsync.agent.trees.storage import require_room
from envsync.agent.wire.messages import PlanFacts, RecordFacts, SourceState, TargetState
from envsync.errors import ConnectionLost, EnvsyncError, TransferFailed
from envsync.push.ends.end import name_server
from envsync.push.ends.source import Source
from envsync.push.ends.target_end import How, TargetEnd
from envsync.push.order.method import MIRROR, REBUILD, Method, choose_method
from envsync.push.order.settings import PushSettings
from envsync.push.preflight import preflight
from envsync.push.preflight.closer_look import CloserLook
from envsync.push.preflight.in_use import await_unused, require_unused
from envsync.push.preflight.same_place import OneCommand
from envsync.push.steps.pace import Pace
from envsync.push.steps.report import ADOPTED, IN_STEP, PLANNED, PUSHED, PushReport
from envsync.push.steps.reporting import Reporting
from envsync.push.steps.sending import Sending
from envsync.push.switches.aftermath import Publication, Reopen, aftermath
from envsync.ssh.session import Link
from envsync.transport.stream import StreamTransport
from envsync.tree.manifest import Manifest

if TYPE_CHECKING:
    from envsync.push.rebuilding.rebuild import Rebuilt

SOURCE_ATTEMPTS = 4


class _Brought(NamedTuple):
    """How the tree in staging came to be: sent, or made there."""

    plan: PlanFacts
    transport: str
    transport_reason: str
    agent_forwarded: bool = False
    rebuilt: Rebuilt | None = None


class Push:
    """One environment to one server. Make one for each; `run` it once."""

    def __init__(
        self,
        settings: PushSettings,
        source: Source,
        target: TargetEnd,
        link: Link | None,
        reopen: Reopen,
        pace: Pace | None = None,
        together: OneCommand | None = None,
    ) -> None:
        """`reopen` connects to the target once more, for when an answer was lost.

        `together` are the pushes of the same command, which may be to the same place.
        """
        self._settings = settings
        self._source = source
        self._target = target
        self._reopen = reopen
        self._together = together or OneCommand(())
        self._pace = pace = pace or Pace(target.server)
        self._closer = closer = CloserLook(settings, source, target)
        self._sending = sending = Sending(settings, source, target, link, pace)
        self._notes = Reporting(settings, source, target.server, closer, sending, pace)
        self._is_shared = True
        self._method = Method(MIRROR, "")

    def run(self) -> PushReport:
        """Push, and report. Raises the `EnvsyncError` that ended it, `server` filled in."""
        try:
            return self._run()
        except EnvsyncError as error:
            error.server = error.server or self._target.server
            self._closer.way_out.complete(error)
            raise
        finally:
            self._sending.end()

    def _run(self) -> PushReport:
        self._pace.begin("inspect")
        lock = not self._settings.dry_run

        def look() -> TargetState:
            return self._target.inspect(
                lock=lock,
                source=self._source.look.place,
                keep=self._settings.keep if lock and self._source.look.is_changed else None,
                on_progress=self._pace.relay,
            )

        target = self._together.await_lock(self._target, look)
        self._settle_share(target)
        if lock and self._source.look.is_being_hashed():
            self._use_the_wait(target)
        source = self._source.look.state()
        for _ in range(SOURCE_ATTEMPTS):
            preflight.require_source(source)
            target = self._as_insisted(source, target)
            # A rebuild takes long, and has to know before it what it is for.
            if not self._is_rebuilt(source, target) or self._source.look.confirmed(source):
                finish = self._prepare(source, target)
                if self._source.look.confirmed(source):
                    return finish()
            self._pace.begin("inspect")
            source = self._source.look.renewed(source)
        raise TransferFailed(
            "the source goes on changing; nothing was published",
            hint="push again when it is at rest",
        )

    def _settle_share(self, target: TargetState) -> None:
        """Who shares it there is settled before anything is built, and before it is shown."""
        share = self._settings.share
        preflight.require_shared(target, share)
        if share is not None:
            preflight.refuse(target.findings)
            self._is_shared, self._notes.share_warnings = self._target.share(share)

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
            self._sending.go_ahead(self._outline_for(target), contents)
        self._sending.look_meanwhile(self._confirm_early)
        self._sending.settle()

    def _confirm_early(self) -> None:
        """Once it is hashed, while the target looks at what came."""
        self._source.look.confirmed(self._source.look.state())

    def _outline_for(self, target: TargetState) -> Manifest | None:
        """What can be sent before the source is hashed, where nothing forbids it."""
        outlined = self._source.outline()
        if outlined is None or not self._may_go_ahead(outlined.state, target):
            return None
        return outlined.manifest

    def _may_go_ahead(self, source: SourceState, target: TargetState) -> bool:
        """What can be refused before the source is hashed is refused here."""
        target = self._as_insisted(source, target)
        if self._is_rebuilt(source, target):
            return False
        preflight.require_source(source)
        preflight.require_target(source, target)
        return True

    def _as_insisted(self, source: SourceState, target: TargetState) -> TargetState:
        if self._settings.force_platform:
            target, differs = preflight.insisted(source, target)
            self._notes.insisted = differs or self._notes.insisted
        return target

    def _is_rebuilt(self, source: SourceState, target: TargetState) -> bool:
        """Settle on a method; whether it is the one that sends nothing."""
        self._method = choose_method(self._settings.method, source.platform, target.platform)
        return self._method.name == REBUILD

    def _prepare(self, source: SourceState, target: TargetState) -> Callable[[], PushReport]:
        """Everything up to the switch; what is left to be done once the source is confirmed."""
        self._pace.begin("preflight")
        preflight.require_target(source, target, self._method.name)
        self._closer.refuse_the_same_place(target)
        if self._method.name != REBUILD:
            source = self._source.answers.mirrored(source)
        if self._is_shared and preflight.is_in_step(source, target, self._method.name):
            return partial(self._in_step, source, target)
        if self._settings.dry_run:
            return partial(self._planned, source, target)
        self._closer.require_permission(source, target)
        if self._method.name == REBUILD:
            return partial(self._publish, source, target, self._make_anew(source, target))
        self._closer.require_inside()
        return partial(self._publish, source, target, self._send())

    def _send(self) -> _Brought:
        sent = self._sending.send()
        self._notes.late_warnings = self._sending.warnings
        choice = sent.choice
        name = choice.transport.name
        return _Brought(sent.plan, name, choice.reason, choice.agent_forwarded)

    def _in_step(self, source: SourceState, target: TargetState) -> PushReport:
        """The content is there. Where no record says so, write one."""
        record, outcome = target.record, IN_STEP
        self._source.look.remember(source.revision)
        if preflight.has_drifted(target) and not self._settings.dry_run:
            record, outcome = self._target.adopt(self._settings, source.revision), ADOPTED
        return replace(self._notes.report(outcome, self._method, source, target), record=record)

    def _planned(self, source: SourceState, target: TargetState) -> PushReport:
        self._pace.begin("plan")
        permission = partial(self._closer.require_permission, source, target)
        processes = self._target.using()
        unused = partial(require_unused, processes, self._settings)
        if self._method.name == REBUILD:
            from envsync.push.rebuilding.rebuild import find_tool, told

            tool = told(find_tool(self._target.ask, self._target.prefix))
            report = self._notes.report(PLANNED, self._method, source, target)
            report = replace(report, tool=tool, in_use=processes)
            return replace(report, error=self._refused(permission, unused))
        planned = self._sending.planned()
        self._notes.late_warnings = self._sending.warnings
        self._notes.ask_both_ends(source, target)
        plan, free = planned.plan, Space(target.free_bytes, target.free_inodes)
        new_files = plan.fetch_files + plan.copy_files
        room = partial(require_room, free, plan.new_bytes, new_files)
        refused = self._refused(permission, self._closer.require_inside, room, unused)
        return replace(
            self._notes.report(PLANNED, self._method, source, target),
            plan=plan,
            in_use=processes,
            transport=planned.choice.transport.name,
            transport_reason=planned.choice.reason,
            agent_forwarded=planned.choice.agent_forwarded,
            predicted_wire_bytes=planned.wire_bytes,
            error=refused,
        )

    def _refused(self, *requirements: Callable[[], None]) -> EnvsyncError | None:
        """What would be refused first, for a report of what would be done."""
        for require in requirements:
            try:
                require()
            except EnvsyncError as error:
                name_server(error, self._target.server)
                return error
        return None

    def _make_anew(self, source: SourceState, target: TargetState) -> _Brought:
        """Nothing is sent but what the environment asks for."""
        from envsync.push.rebuilding.rebuild import Order, Rebuild

        self._pace.begin("rebuild")
        settings = self._settings
        other_platform = preflight.is_other_platform(source, target)
        order = Order(self._target.prefix, settings.keep, settings.from_history, other_platform)
        requirements = self._source.answers.requirements()
        rebuilt = Rebuild(self._target.ask, requirements, order, self._pace.relay).run()
        self._notes.late_warnings = rebuilt.warnings
        self._pace.begin("verify")
        self._target.complete(on_progress=self._pace.relay)
        return _Brought(rebuilt.plan, "", "", rebuilt=rebuilt)

    def _publish(self, source: SourceState, target: TargetState, sent: _Brought) -> PushReport:
        self._pace.begin("publish")
        if sent.rebuilt is None:
            self._notes.ask_both_ends(source, target)
        processes = await_unused(self._target, self._settings)
        # Before the switch: whoever dies after it must find its own version there again.
        self._source.look.remember(source.revision)
        record = self._switch(source, target, sent)
        overwritten = ""
        if preflight.has_drifted(target):
            overwritten = "what stood there is kept as a generation"
        report = replace(
            self._notes.report(PUSHED, self._method, source, target),
            plan=sent.plan,
            transport=sent.transport,
            transport_reason=sent.transport_reason,
            agent_forwarded=sent.agent_forwarded,
            record=record,
            in_use=processes,
            overwritten=overwritten,
        )
        made = sent.rebuilt
        if made is None:
            return report
        return replace(report, totals=made.totals, tool=made.tool, changes=made.changes)

    def _switch(self, source: SourceState, target: TargetState, sent: _Brought) -> RecordFacts:
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
            self._notes.late_warnings += found.warnings
            return found.record
