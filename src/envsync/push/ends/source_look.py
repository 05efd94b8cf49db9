"""A look at a source: what was found, whether it is still valid, and locking among its users."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

from envsync.agent.wire.figures import SOURCE_CHANGED, OnFigure
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
from envsync.push.ends.end import End
from envsync.tree.environment_name import BASE


def path_known_as(prefix: str, name: str) -> str:
    """Return the path by which conda knows an environment; for `base`, the prefix itself."""
    return prefix if name == BASE else f"{prefix}/envs/{name}"


@dataclass(frozen=True, slots=True)
class _Version:
    """A version found on the source, and what is known of it.

    `is_confirmed` is None until that was asked. `answers` are those of `ask_once`, by operation and
    request.
    """

    state: SourceState
    is_confirmed: bool | None = None
    answers: Mapping[tuple[str, object], object] = field(default_factory=dict)


class SourceLook:
    """One environment on the source: inspected once, asked by any number of pushes.

    Questions are answered one at a time; an error that ends one is raised with `server` filled in.
    Safe to share between threads.
    """

    def __init__(self, end: End, prefix: str, name: str, local: Sequence[str]) -> None:
        self._end = end
        self._lock = threading.Lock()
        self._version: _Version | None = None
        """The version that was found last, replaced as a whole when more is known of it."""
        self._is_hashing = False
        # Clear only during a scan, which finds out whether anything has to be hashed.
        self._scanned = threading.Event()
        self._scanned.set()
        self.serves_several = False
        """Whether several pushes read this source; set before they begin."""
        self.relocates_to = ""
        """Another path that the environment will have on a target; set before pushes begin."""
        self.path_known_as = path_known_as(prefix, name)
        """The path by which conda knows the environment, and which is written into its files."""
        self.open_request = OpenSource(prefix, name, tuple(local))
        """What the source's agent was told to open, for telling another agent the same."""
        opened = end.ask(OPEN_SOURCE, self.open_request)
        self.identity = opened.identity
        """The directory's identity, to tell whether a target is the same directory."""
        self._stands_at = opened.stands_at

    @property
    def server(self) -> str:
        return self._end.server

    def close(self) -> None:
        """Close the source's end."""
        self._end.close()

    def state(self, on_progress: OnFigure | None = None) -> SourceState:
        """Return what the source is; it is inspected at the first call."""
        # At first without the lock: whoever holds it may be looking at the whole source.
        version = self._version
        if version is None:
            with self._lock:
                version = self._version or self._new_version(on_progress)
        return version.state

    @property
    def known_revision(self) -> str:
        """The revision that was found last, without looking; empty if there was none."""
        version = self._version
        return "" if version is None else version.state.revision

    @property
    def is_changed(self) -> bool:
        """Whether some of the source had to be hashed, as far as that is known by now."""
        version = self._version
        return self._is_hashing or (version is not None and version.state.hashed_bytes > 0)

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
            version = self._version
            if version is None or version.state is not state:
                return False
            is_confirmed = version.is_confirmed
            if is_confirmed is None:
                is_confirmed = self._end.ask(CONFIRM_SOURCE, None)
                self._version = replace(version, is_confirmed=is_confirmed)
            return is_confirmed

    def renewed(self, state: SourceState) -> SourceState:
        """Return the source's new state, after `state` was not confirmed."""
        with self._lock:
            version = self._version
            if version is None or version.state is state:
                version = self._new_version()
            return version.state

    def look_again(self, *, is_changed: bool) -> None:
        """Forget the state if the source has changed since, or if it was busy or broken.

        `state` then inspects once more. Otherwise nothing is done.
        """
        with self._lock:
            findings = () if self._version is None else self._version.state.findings
            if is_changed or any(finding.blocking for finding in findings):
                self._version = None

    def changed(self, on_progress: OnFigure | None = None) -> bool:
        """Return whether the source differs from what was inspected, with every byte hashed anew.

        This finds a change that left no trace in a file's times, and it is known from then on.
        """
        revision = self.known_revision
        with self._lock:
            again = InspectSource(fresh=True)
            state = self._end.ask(INSPECT_SOURCE, again, on_progress=on_progress)
        return state.revision != revision

    def relocated_to(self, target_path: str) -> str:
        """Return `target_path` if the environment's files may name another path than that; else "".

        If the path here is reached through a link, the files may name what it leads to.
        """
        paths = (target_path, self.path_known_as, self._stands_at)
        return target_path if len(set(map(os.path.normpath, paths))) > 1 else ""

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
            version = self._version or self._new_version()
            key = operation.name, request
            if key not in version.answers:
                answers = {**version.answers, key: self._end.ask(operation, request)}
                self._version = version = replace(version, answers=answers)
            return cast("AnswerT", version.answers[key])

    def inspect(self, on_progress: OnFigure | None) -> SourceState:
        """Look at the source now; called by this class alone, one call at a time."""

        def relay(figure: str, value: int) -> None:
            if figure == SOURCE_CHANGED:
                self._is_hashing = True
                self._scanned.set()
            elif on_progress:
                on_progress(figure, value)

        self._scanned.clear()
        try:
            request = InspectSource(target_path=self.relocates_to)
            return self._end.ask(INSPECT_SOURCE, request, on_progress=relay)
        finally:
            self._is_hashing = False
            self._scanned.set()

    def _new_version(self, on_progress: OnFigure | None = None) -> _Version:
        self._version = version = _Version(self.inspect(on_progress))
        return version
