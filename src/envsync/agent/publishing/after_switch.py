"""What follows a switch: check -> record -> forget the intent; or it is undone."""

from __future__ import annotations

import contextlib
import os
from typing import NoReturn, Optional, Tuple, Union

from envsync.agent.places.live_name import LiveName
from envsync.agent.places.local_environment import LocalEnvironment
from envsync.agent.places.records import Record
from envsync.agent.places.staging_note import find_staging, forget_staging
from envsync.agent.publishing.check import CheckFailure, run_check
from envsync.agent.publishing.failed_version import changed_by_hand, keep_if_changed
from envsync.agent.publishing.intent import DamagedIntent, Intent, find_intent, forget_intent
from envsync.agent.server.processes import may_be_written_to
from envsync.agent.server.progress import OnStep
from envsync.errors import HELD_THERE, CheckFailed, Hint

_COMMAND_CHARACTERS_MAX = 1000


class AfterSwitch:
    """Finalizes or undoes the switch of one environment, whose intent is on disk.

    The push lock must be held.
    """

    def __init__(self, environment: LocalEnvironment, on_step: OnStep) -> None:
        self._environment = environment
        self._layout, self._records, _ = environment
        self._on_step = on_step
        self._name = LiveName(self._layout, on_step)

    def finalize(self, switch: Intent) -> Record:
        """Check the live version and record it. May be run again after a crash.

        Raises `CheckFailed` if the check failed or could not be run; then the previous version, if
        there was one, is live again.
        """
        failure = self._held_already(switch)
        if failure is None:
            self._on_step("check")
            failure = self._check(switch)
        if failure is not None:
            self._take_back(switch, failure)
        self._on_step("record")
        self._record(switch)
        self._on_step("recorded")
        return switch.new

    def _held_already(self, switch: Intent) -> Optional[CheckFailure]:
        """Return the failure by which the version is held already, before any new check."""
        if switch.event.retry_held or not self._is_held(switch.new):
            return None
        return CheckFailure("its check failed there", ())

    def _is_held(self, version: Record) -> bool:
        return version.source_revision in self._records.held.reasons()

    def _check(self, switch: Intent) -> Optional[CheckFailure]:
        """Run the check. Hold a version that fails it."""
        new, check = switch.new, switch.check
        live, state = self._layout.path, self._layout.state
        failure = run_check(check.command, check.timeout_seconds, live, state)
        if failure is not None and failure.is_verdict:
            # Before switching back, so that whoever finishes that knows. A full disk must not
            # prevent switching back.
            with contextlib.suppress(OSError):
                reason = f"its check failed: {failure.summary}"
                self._records.held.hold(new.source_revision, reason, there=new.revision)
        return failure

    def _record(self, switch: Intent) -> None:
        new, kept, _, event = switch
        if kept is not None:
            self._records.store(kept)
        self._records.store(new)
        self._records.history.log(event._replace(number=new.number, revision=new.revision))
        held = self._records.held
        held.release(new.source_revision, new.revision)
        if event.holds:
            held.hold(event.holds, f"rolled back by {event.who}", there=event.holds_there)
        self._forget_staging(new)
        forget_intent(self._layout)

    def _forget_staging(self, new: Record) -> None:
        """Forget the note on staging, unless it is about another tree: a rollback ends no push."""
        note = find_staging(self._layout)
        if note is None or note.inode == new.inode:
            forget_staging(self._layout)

    def _take_back(self, switch: Intent, failure: CheckFailure) -> NoReturn:
        """Switch back, and raise the error that says so."""
        new = switch.new
        if switch.is_recovered:
            # It was live for long. After a crash from here on, nobody may build over it.
            with contextlib.suppress(OSError):
                self._records.store(changed_by_hand(new))
        previous = self.other_tree(switch)
        if previous is None:
            self._name.take_away()
            stands = "nothing was published"
        else:
            self.give_back_to(previous)
            stands = "the previous version is live again"
        kept = self._keep_work(switch)
        with contextlib.suppress(OSError):  # else the next contact forgets the switch
            self.abandon()
        command = switch.check.command[:_COMMAND_CHARACTERS_MAX]
        raise CheckFailed(
            f"the check `{command}` failed ({failure.summary}); {stands}",
            details=(*failure.output, kept) if kept else failure.output,
            hint=self._hint(failure, new),
        )

    def _keep_work(self, switch: Intent) -> str:
        """Keep what somebody did in the version taken back; return what a person has to know."""
        new = switch.new
        try:
            if keep_if_changed(self._environment, switch):
                self._forget_staging(new)
                return f"it was changed meanwhile, and is kept as generation {new.number}"
            self._records.forget(new)
            tree = self._tree_or_trees(new)
            if not may_be_written_to(tree):
                return ""
            # The next push builds on another tree.
            self._forget_staging(new)
            where = os.fsdecode(tree)
            return f"a job may still write into it, in {where}: it goes after that job"
        except OSError:
            # A full disk must not prevent switching back; but whoever worked there has to know.
            where = os.fsdecode(self._tree_or_trees(new))
            return (
                "it was changed meanwhile, which could not be recorded: before the next push, "
                f"copy what you need from {where}"
            )

    def _tree_or_trees(self, version: Record) -> bytes:
        """Return where a version is, or where all are if the disk does not tell."""
        with contextlib.suppress(OSError):
            return self._records.tree(version) or self._layout.trees
        return self._layout.trees

    def _hint(self, failure: CheckFailure, new: Record) -> Union[str, Hint]:
        if not failure.is_verdict:
            return "make sure that it can be run there, then push again"
        if self._is_held(new):
            return HELD_THERE
        return (
            "that could not be recorded: free some space there, change the environment, "
            "then push again"
        )

    def give_back_to(self, tree: bytes) -> None:
        """Make the version that was switched out live again."""
        self._name.give_to(tree)
        self._name.sync()

    def other_tree(self, switch: Intent) -> Optional[bytes]:
        """Return where the version that was switched out is, or None."""
        inode = switch.event.replaced_inode
        if inode is None or inode == switch.new.inode:
            return None
        return self._layout.trees_by_inode().get(inode)

    def abandon(self) -> None:
        """Forget a switch that did not happen, or was undone; staging stays for the next try.

        A version that was switched out and is not live again gets the record noted for it.
        """
        records: Tuple[Optional[Record], ...] = ()
        with contextlib.suppress(DamagedIntent):
            intent = find_intent(self._layout)
            records = intent.new, intent.kept
            if intent.kept is not None and self._records.tree(intent.kept) is not None:
                self._records.store(intent.kept)
        forget_intent(self._layout)
        for record in records:
            if record is not None:
                self._records.forget_unwritten(record)
