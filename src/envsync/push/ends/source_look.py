"""A look at a source: what was found, whether it is still valid, and locking among its users."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from envsync.agent.places.layout import BASE
from envsync.agent.wire.messages import SourceState
from envsync.agent.wire.operation import AnswerT, Operation, RequestT
from envsync.agent.wire.source_operations import (
    CONFIRM_SOURCE,
    INSPECT_SOURCE,
    OPEN_SOURCE,
    REMEMBER_REVISION,
    SEES_NONCE,
    InspectSource,
    OpenSource,
)
from envsync.errors import EnvsyncError
from envsync.push.ends.end import End, Progress


def path_known_as(prefix: str, name: str) -> str:
    """Return the path by which conda knows an environment; for `base`, the prefix itself."""
    return prefix if name == BASE else f"{prefix}/envs/{name}"


def _stands_there() -> None:
    pass


class SourceLook:
    """One environment on the source: inspected once, asked by any number of pushes.

    Questions are answered one at a time; an error that ends one is raised with `server` filled in.
    Safe to share between threads.
    """

    def __init__(
        self,
        end: End,
        prefix: str,
        name: str,
        local: Sequence[str],
        before: Callable[[], None] = _stands_there,
    ) -> None:
        """`before` is called ahead of each inspection by `state` or `renewed`.

        It may first have to make the environment.
        """
        self._end = end
        self._before = before
        self._lock = threading.Lock()
        self._state: SourceState | None = None
        self._answers: dict[tuple[str, object], object] = {}
        self._confirmed: bool | None = None
        self._is_hashing = False
        # Clear only during a scan, which finds out whether anything has to be hashed.
        self._scanned = threading.Event()
        self._scanned.set()
        self.serves_several = False
        """Whether several pushes read this source; set before they begin."""
        self.path_known_as = path_known_as(prefix, name)
        """The path by which conda knows the environment, and which is written into its files."""
        self.opening = OpenSource(prefix, name, tuple(local), name == BASE)
        """What the source's agent was told to open, for telling another agent the same."""
        opened = end.ask(OPEN_SOURCE, self.opening)
        self.place = opened.place
        """The directory's identity, to tell whether a target is the same directory."""
        self._stands_at = opened.stands_at

    @property
    def server(self) -> str:
        return self._end.server

    def close(self) -> None:
        """Close the source's end."""
        self._end.close()

    def state(self, on_progress: Progress | None = None) -> SourceState:
        """Return what the source is; it is inspected at the first call."""
        state = self._state
        if state is not None:
            # Without taking the lock: whoever holds it may be looking at the whole source.
            return state
        with self._lock:
            if self._state is None:
                self._inspect(on_progress)
            assert self._state is not None
            return self._state

    @property
    def known_revision(self) -> str:
        """The revision that was found last, without looking; empty if there was none."""
        state = self._state
        return "" if state is None else state.revision

    @property
    def is_changed(self) -> bool:
        """Whether some of the source had to be hashed, as far as that is known by now."""
        state = self._state
        return self._is_hashing or (state is not None and state.hashed_bytes > 0)

    def is_being_hashed(self) -> bool:
        """Return whether `state` will have to wait because the source was found changed."""
        self._scanned.wait()
        return self._is_hashing

    def confirmed(self, state: SourceState) -> bool:
        """Return whether a stat pass after hashing found the source in this state.

        The pass is made once, however many ask. False also if another push has found the source
        changed.
        """
        with self._lock:
            if self._state is not state:
                return False
            if self._confirmed is None:
                self._confirmed = self._end.ask(CONFIRM_SOURCE, None)
            return self._confirmed

    def renewed(self, state: SourceState) -> SourceState:
        """Return the source's new state, after `state` was not confirmed."""
        with self._lock:
            if self._state is state:
                self._inspect()
            assert self._state is not None
            return self._state

    def look_again(self, *, is_changed: bool) -> None:
        """Forget the state if the source has changed since, or if it was busy or broken.

        `state` then inspects once more. Otherwise nothing is done.
        """
        with self._lock:
            found = () if self._state is None else self._state.findings
            if is_changed or any(finding.blocking for finding in found):
                self._state = None

    def changed(self, on_progress: Progress | None = None) -> bool:
        """Return whether the source differs from what was inspected, with every byte hashed anew.

        This finds a change that left no trace in a file's times, and it is known from then on.
        """
        assert self._state is not None
        with self._lock:
            again = InspectSource(fresh=True)
            state = self._end.ask(INSPECT_SOURCE, again, on_progress=on_progress)
        return state.revision != self._state.revision

    def relocated_to(self, there: str) -> str:
        """Return `there` if the environment's files may name another path than that; else "".

        If the path here is reached through a link, the files may name what it leads to.
        """
        paths = {os.path.normpath(path) for path in (there, self.path_known_as, self._stands_at)}
        return there if len(paths) > 1 else ""

    def sees(self, nonce: str) -> bool:
        """Return whether a target's lock is in the source's own directory."""
        return self.ask(SEES_NONCE, nonce)

    def remember(self, revision: str) -> str:
        """Note that this source has had the revision; return why it could not, else ""."""
        return self.ask(REMEMBER_REVISION, revision)

    def ask(self, operation: Operation[RequestT, AnswerT], request: RequestT) -> AnswerT:
        """Carry out one operation of the agent on the source, waiting for its turn."""
        with self._lock:
            return self._end.ask(operation, request)

    def ask_once(self, operation: Operation[RequestT, AnswerT], request: RequestT) -> AnswerT:
        """Return the answer about the version found last; it is asked once for each version."""
        self.state()
        with self._lock:
            key = operation.name, request
            if key not in self._answers:
                self._answers[key] = self._end.ask(operation, request)
            return cast("AnswerT", self._answers[key])

    def _make_it_stand_there(self) -> None:
        try:
            self._before()
        except EnvsyncError as error:
            error.server = error.server or self.server
            raise

    def _inspect(self, on_progress: Progress | None = None) -> None:
        def relay(told: Mapping[str, Any]) -> None:
            if told.get("changed"):
                self._is_hashing = True
                self._scanned.set()
            elif on_progress:
                on_progress(told)

        self._make_it_stand_there()
        self._scanned.clear()
        try:
            state = self._end.ask(INSPECT_SOURCE, InspectSource(), on_progress=relay)
        finally:
            self._is_hashing = False
            self._scanned.set()
        self._state, self._confirmed = state, None
        self._answers = {}
