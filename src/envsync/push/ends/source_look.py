"""A look at a source: what was found, whether it is still valid, and locking among its users."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, cast

from envsync.agent.places.layout import BASE
from envsync.agent.wire.checked_json import Arguments, from_json
from envsync.agent.wire.messages import SourceState
from envsync.agent.wire.short_answers import ConfirmedFacts, SeesFacts, SourceOpened
from envsync.agent.wire.source_requests import AskNonce, AtPath, InspectSource, OpenSource, Remember
from envsync.errors import EnvsyncError
from envsync.push.ends.end import Answer, End, Progress

T = TypeVar("T")


def path_known_as(prefix: str, name: str) -> str:
    """The path that conda knows an environment by; `base` is the prefix itself."""
    return prefix if name == BASE else f"{prefix}/envs/{name}"


def _stands_there() -> None:
    pass


class SourceLook:
    """One environment where it stands: looked at once, asked by as many pushes as there are.

    One of them is answered at a time; what ends that is raised with `server` filled in. Safe to
    share between threads.
    """

    def __init__(
        self,
        end: End,
        prefix: str,
        name: str,
        local: Sequence[str],
        before: Callable[[], None] = _stands_there,
    ) -> None:
        """`before` is called ahead of every look, which it may have to make something for."""
        self._end = end
        self._before = before
        self._lock = threading.Lock()
        self._state: SourceState | None = None
        self._answers: dict[tuple[str, str], object] = {}
        self._confirmed: bool | None = None
        self._is_hashing = False
        # Set but for while it is scanned, which tells whether anything has to be hashed.
        self._scanned = threading.Event()
        self._scanned.set()
        self.serves_several = False
        """Whether several pushes read it; to be set before they begin."""
        self.path_known_as = path_known_as(prefix, name)
        """What conda knows it by, and what is written into its files."""
        self.opening = OpenSource(prefix, name, tuple(local), name == BASE)
        """What its agent was told to open it by, for another one there."""
        opened = from_json(SourceOpened, end.call("source.open", self.opening).document)
        self.place = opened.place
        """Where it stands, to tell whether a target is the same directory."""
        self._stands_at = opened.stands_at

    @property
    def server(self) -> str:
        return self._end.server

    def close(self) -> None:
        """Let go of its end."""
        self._end.close()

    def state(self, on_progress: Progress | None = None) -> SourceState:
        """What the source is; inspected at the first call."""
        state = self._state
        if state is not None:
            # Not waiting for who asks something else: it may be a look at the whole source.
            return state
        with self._lock:
            if self._state is None:
                self._inspect(on_progress)
            assert self._state is not None
            return self._state

    @property
    def known_revision(self) -> str:
        """The revision that was found last, without looking; empty where none was."""
        state = self._state
        return "" if state is None else state.revision

    @property
    def is_changed(self) -> bool:
        """Whether something of it had to be hashed, as far as that is known by now."""
        state = self._state
        return self._is_hashing or (state is not None and state.hashed_bytes > 0)

    def is_being_hashed(self) -> bool:
        """Whether `state` will have to wait, because the source was found changed."""
        self._scanned.wait()
        return self._is_hashing

    def confirmed(self, state: SourceState) -> bool:
        """Whether the source was that when it was hashed, by a stat pass after the hashing.

        Asked by many, looked at once. False also where another push has found it changed.
        """
        with self._lock:
            if self._state is not state:
                return False
            if self._confirmed is None:
                answer = self._end.call("source.confirm")
                self._confirmed = from_json(ConfirmedFacts, answer.document).confirmed
            return self._confirmed

    def renewed(self, state: SourceState) -> SourceState:
        """What the source is now that `state` was not confirmed."""
        with self._lock:
            if self._state is state:
                self._inspect()
            assert self._state is not None
            return self._state

    def look_again(self, *, is_changed: bool) -> None:
        """Forget what was found where it has changed since, or was not at rest: `state` then
        looks once more. Without, nothing is done."""
        with self._lock:
            found = () if self._state is None else self._state.findings
            if is_changed or any(finding.blocking for finding in found):
                self._state = None

    def changed(self) -> bool:
        """Whether the source is another one than was inspected, every byte hashed anew.

        A change that left no trace in a file's times is found, and known from then on.
        """
        assert self._state is not None
        answer = self.ask("source.inspect", InspectSource(fresh=True))
        return from_json(SourceState, answer.document).revision != self._state.revision

    def may_name_another(self, there: str) -> bool:
        """Whether its files may name another path than that.

        Where a link leads to it here, they may name where that leads.
        """
        paths = {os.path.normpath(path) for path in (there, self.path_known_as, self._stands_at)}
        return len(paths) > 1

    def sees(self, nonce: str) -> bool:
        """Whether a target's lock stands in the source's own place."""
        return from_json(SeesFacts, self.ask("source.sees", AskNonce(nonce)).document).sees

    def remember(self, revision: str) -> None:
        """Note that this source has had the revision."""
        self.ask("source.remember", Remember(revision))

    def ask(
        self, operation: str, arguments: Arguments | None = None, payload: bytes = b""
    ) -> Answer:
        """Carry out one operation of the agent where the source is, when it is this one's turn."""
        with self._lock:
            return self._end.call(operation, arguments, payload)

    def asked_once(self, cls: type[T], operation: str, there: str) -> T:
        """The answer about the version that was found, for as long as that is the last one."""
        with self._lock:
            key = operation, there
            if key not in self._answers:
                document = self._end.call(operation, AtPath(there)).document
                self._answers[key] = from_json(cls, document)
            return cast("T", self._answers[key])

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
            answer = self._end.call("source.inspect", InspectSource(), on_progress=relay)
        finally:
            self._is_hashing = False
            self._scanned.set()
        self._state, self._confirmed = from_json(SourceState, answer.document), None
        self._answers = {}
