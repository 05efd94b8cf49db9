"""Finalizes a switch: check -> record -> forget the intent; or switches back."""

from __future__ import annotations

import contextlib
import os
from typing import Tuple, Union

from envsync.agent.places.records import Record
from envsync.agent.places.staging_note import find_staging, forget_staging
from envsync.agent.publishing.check import CheckFailure, run_check
from envsync.agent.publishing.failed_version import keep_if_changed, taken_back
from envsync.agent.publishing.intent import Intent, forget_intent
from envsync.agent.publishing.switch_site import SwitchSite
from envsync.agent.publishing.switch_undo import SwitchUndo
from envsync.agent.server.processes import may_be_written_to
from envsync.errors import HELD_THERE, CheckFailed, Hint

_COMMAND_CHARACTERS_MAX = 1000


class Finalizer:
    """Finalizes the switches of one environment. The push lock must be held."""

    def __init__(self, site: SwitchSite, undo: SwitchUndo) -> None:
        self._environment, _, self._on_step = site
        self._layout, self._records, _ = site.environment
        self._undo = undo

    def finalize(self, switch: Intent, *, is_recovered: bool = False) -> Record:
        """Check the live version and record it. May be run again after a crash.

        `is_recovered` says that the switch was interrupted, so the version may have been live for
        long. Raises `CheckFailed` if the check failed or could not be run; then the previous
        version, if there was one, is live again.
        """
        new, kept, check, event = switch
        if new.source_revision in self._records.held.reasons() and not event.get("retry_held"):
            held = CheckFailure("its check failed there", ())
            raise self._taken_back(switch, held, is_recovered=is_recovered)
        self._on_step("check")
        live, state = self._layout.path, self._layout.state
        failure = run_check(check.command, check.timeout_seconds, live, state)
        if failure is not None:
            # Hold it before switching back, so that whoever finishes that knows. A full disk must
            # not prevent switching back.
            with contextlib.suppress(OSError):
                if failure.is_verdict:
                    reason = f"its check failed: {failure.summary}"
                    self._records.held.hold(new.source_revision, reason, there=new.revision)
            raise self._taken_back(switch, failure, is_recovered=is_recovered)
        self._on_step("record")
        if kept is not None:
            self._records.store(kept)
        self._records.store(new)
        self._records.history.log({"number": new.number, "revision": new.revision, **event})
        self._records.held.release(new.source_revision, new.revision)
        if event.get("holds"):
            reason = f"rolled back by {event.get('who')}"
            there = str(event.get("holds_there") or "")
            self._records.held.hold(str(event["holds"]), reason, there=there)
        self._forget_staging(new)
        forget_intent(self._layout)
        self._on_step("recorded")
        return new

    def _tree_or_trees(self, version: Record) -> bytes:
        """Return where a version is, or where all are if the disk does not tell."""
        with contextlib.suppress(OSError):
            return self._records.tree(version) or self._layout.trees
        return self._layout.trees

    def _forget_staging(self, new: Record) -> None:
        """Forget the note on staging, unless it is about another tree: a rollback ends no push."""
        note = find_staging(self._layout)
        if note is None or note.inode == new.inode:
            forget_staging(self._layout)

    def _taken_back(
        self, switch: Intent, failure: CheckFailure, *, is_recovered: bool
    ) -> CheckFailed:
        """Switch back and return the error that says so."""
        new = switch.new
        if is_recovered:
            # It was live for long. After a crash from here on, nobody may build over it.
            with contextlib.suppress(OSError):
                self._records.store(taken_back(new))
        is_there_again = self._undo.take_back(switch)
        kept: Tuple[str, ...] = ()
        try:
            if keep_if_changed(self._environment, new, is_recovered=is_recovered):
                self._forget_staging(new)
                kept = (f"it was changed meanwhile, and is kept as generation {new.number}",)
            else:
                self._records.forget(new)
                tree = self._tree_or_trees(new)
                if may_be_written_to(tree):
                    # The next push builds on another tree.
                    self._forget_staging(new)
                    where = os.fsdecode(tree)
                    kept = (f"a job may still write into it, in {where}: it goes after that job",)
        except OSError:
            # A full disk must not prevent switching back; but whoever worked there has to know.
            tree = self._tree_or_trees(new)
            kept = (
                (
                    "it was changed meanwhile, which could not be recorded: before the next push, "
                    f"copy what you need from {os.fsdecode(tree)}"
                ),
            )
        with contextlib.suppress(OSError):  # else the next contact forgets the switch
            self._undo.abandon()
        hint: Union[str, Hint] = HELD_THERE
        if not failure.is_verdict:
            hint = "make sure that it can be run there, then push again"
        elif new.source_revision not in self._records.held.reasons():
            hint = (
                "that could not be recorded: free some space there, change the environment, "
                "then push again"
            )
        stands = "the previous version is live again" if is_there_again else "nothing was published"
        command = switch.check.command[:_COMMAND_CHARACTERS_MAX]
        return CheckFailed(
            f"the check `{command}` failed ({failure.summary}); {stands}",
            details=(*failure.output, *kept),
            hint=hint,
        )
