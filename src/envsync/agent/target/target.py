"""A target as it is: what a push looks at before it does anything."""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING, Callable, Optional, Sequence, Tuple

from envsync.agent.places.base import has_conda
from envsync.agent.places.layout import INTENT, layout_of
from envsync.agent.places.local_environment import local_environment
from envsync.agent.places.locks import PushLock
from envsync.agent.server.helper_processes import NO_HELPERS, HelperProcesses
from envsync.agent.server.processes import processes_using
from envsync.agent.server.progress import RECOVERED, SWITCH, OnStep, Progress
from envsync.agent.target import preparation
from envsync.agent.target.inspection import live_findings, target_state
from envsync.agent.target.look import (
    NOT_LOOKED,
    Look,
    look_with_record,
    with_inode_on_record,
)
from envsync.agent.trees.snapshot import Snapshot
from envsync.agent.wire.messages import (
    DirectoryIdentity,
    ProcessUse,
    TargetState,
)
from envsync.agent.wire.target_operations import OpenTarget
from envsync.errors import AgentFailed, EnvsyncError, PreflightRefused, SourceRefused
from envsync.tree.environment_name import BASE

if TYPE_CHECKING:
    from envsync.agent.publishing.guarded_switch import Publisher
    from envsync.agent.staging.reuse import Elsewhere


class Target:
    """One environment on this server, as pushes and queries see it."""

    def __init__(
        self,
        request: OpenTarget,
        local: Sequence[str],
        cache_directory: Optional[str],
        helpers: HelperProcesses = NO_HELPERS,
        on_step: OnStep = lambda _: None,
    ) -> None:
        """`local` are the patterns that hold, also if the request has none."""
        self.is_base = request.name == BASE
        if not self.is_base:
            preparation.require_prefix(request.prefix)
        self._elsewhere: Optional[Elsewhere] = None
        self.environment = local_environment(
            layout_of(request.prefix, request.name), local, cache_directory, helpers
        )
        self.layout, self.records, self.trees = self.environment
        self.lock = PushLock(self.layout, request.requester)
        self.last_look = NOT_LOOKED
        self.keep = request.keep
        self.allow_shrink = request.allow_shrink
        self.on_step = on_step

    @property
    def name(self) -> str:
        return self.layout.name

    def elsewhere(self) -> Elsewhere:
        """Return what this server holds apart from this environment; it is looked at once."""
        from envsync.agent.staging.reuse import Elsewhere

        if self._elsewhere is None:
            self._elsewhere = Elsewhere(self.environment)
        return self._elsewhere

    # Looking

    def inspect(
        self,
        *,
        lock: bool,
        source: Optional[DirectoryIdentity] = None,
        progress: Optional[Progress] = None,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> TargetState:
        """Return the target's state. With `lock`, take the push lock, unless a finding blocks.

        Raises `TargetIsSource` if the directory is the `source` itself, and `Locked` if somebody
        else has the lock. `meanwhile` is called once the look at the live version has begun.
        """
        preparation.require_sound_link(self.layout)
        if source is not None:
            preparation.require_another_place(self.layout, source)
        recovered = None
        if self.is_base:
            preparation.make_room(self.layout, touch=lock)
        findings = list(preparation.place_findings(self.layout))
        if lock and not any(finding.blocking for finding in findings):
            self.lock.acquire()
            recovered = self.recover()
        elif not lock:
            recovered = self.recover_if_free()
        if self._has_version():
            self.trees.begin(self.layout.standing())
            meanwhile()
        try:
            look = self.look(progress)
        except PreflightRefused:
            # Do not ask the owner to open files to a user who may not replace them anyway.
            preparation.refuse_anothers(findings)
            raise
        findings += live_findings(self.layout, self.records, look)
        return target_state(self.environment, look, self.lock, findings, recovered)

    def look(self, progress: Optional[Progress] = None, *, fresh: bool = False) -> Look:
        """Look at the live version; with `fresh`, hash every byte of it again."""
        began_seconds = time.monotonic()
        look = look_with_record(self.environment, began_seconds, self._snapshot(progress, fresh))
        if self.lock.is_held:
            look = with_inode_on_record(self.environment, look)
        self.last_look = look
        return look

    @property
    def live(self) -> Optional[Snapshot]:
        """The live version as the last look found it."""
        return self.last_look.live

    def forget_look(self) -> None:
        """Have the next query look at the live version again."""
        self.last_look = NOT_LOOKED

    def recover(self) -> Optional[str]:
        """Finish or forget an interrupted switch or removal; return what was done, or None.

        The push lock must be held. It is a step like a switch, which is not given up either.
        """
        interrupted = self.layout.interrupted()
        if not interrupted:
            return None
        self.on_step(SWITCH)
        try:
            return self._recover(interrupted)
        finally:
            self.on_step(RECOVERED)

    def _recover(self, interrupted: str) -> Optional[str]:
        if interrupted == INTENT:
            from envsync.agent.publishing.recovery import recover_switch

            return recover_switch(self.environment, self.on_step)
        from envsync.agent.publishing.remove import Remover

        return Remover(self.environment, self.lock, self.on_step).recover()

    def recover_if_free(self) -> Optional[str]:
        """Finish or forget what was interrupted if the lock is free; return what was done or None.

        A look without the lock changes nothing else.
        """
        if self.lock.is_held or not self.layout.interrupted():
            return None
        # With `self.lock` and no other: a second lock would overwrite which command had it last.
        # Whoever has the lock next reports what fails here.
        with contextlib.suppress(EnvsyncError, OSError, ValueError):
            self.lock.acquire()
            try:
                return self.recover()
            finally:
                self.lock.release()
        return None

    def _has_version(self) -> bool:
        """Return whether there is a live version; a prefix without conda is none."""
        is_there = os.path.isdir(self.layout.live)
        return is_there and not (self.is_base and not has_conda(self.layout.standing()))

    def _snapshot(self, progress: Optional[Progress], fresh: bool) -> Optional[Snapshot]:
        preparation.require_sound_link(self.layout)
        if not self._has_version():
            return None
        try:
            # A glance is enough: the live version is looked at again right before the switch.
            return self.trees.snapshot(
                self.layout.standing(), fresh=fresh, glance=not fresh, progress=progress
            )
        except SourceRefused as error:
            # Not `SourceRefused`, which would concern all servers: this is about one target only.
            raise PreflightRefused(
                f"the live version cannot be read: {error.message}",
                details=error.details,
                hint=error.advice,
            ) from error

    def require_lock(self) -> None:
        """Raise `AgentFailed` if `inspect` has not taken the lock."""
        if not self.lock.is_held:
            raise AgentFailed("the environment was not locked")

    def publisher(self) -> Publisher:
        # Imported only to publish: most contacts find nothing to do.
        from envsync.agent.publishing.guarded_switch import Publisher

        return Publisher(self.environment, self.lock, self.on_step)

    def using(self) -> Tuple[ProcessUse, ...]:
        """Return the processes that use the environment; none if nothing stands there.

        One that runs on an earlier version uses it as well: by path, it opens the live one's files.
        """
        if self.live is None:
            return ()
        paths = (self.layout.path, self.layout.live, self.layout.trees)
        return processes_using(paths, self.layout.file("writers"))
