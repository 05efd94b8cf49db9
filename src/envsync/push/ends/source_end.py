"""A source as a push sees it: looked at once, read by as many pushes as there are targets."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Collection, Container, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

from envsync.agent.places.layout import BASE
from envsync.agent.wire.checked_json import from_json
from envsync.agent.wire.messages import RelocationFacts, SampleFacts, SourceState
from envsync.agent.wire.short_answers import (
    ConfirmedFacts,
    CredentialFacts,
    FindingsFacts,
    GlibcFacts,
    SeesFacts,
    SourceOpened,
)
from envsync.conda.requirements import Requirements
from envsync.errors import AgentFailed, EnvsyncError
from envsync.push.ends.end import End, LocalEnd, Progress
from envsync.push.ends.items import items_of
from envsync.transport.job import Contents, Direct, Item, Relayed
from envsync.tree.manifest import Manifest

if TYPE_CHECKING:
    from envsync.agent.source.source import Source

T = TypeVar("T")


class Outlined(NamedTuple):
    """A source that is still being hashed: its state, and its manifest without contents."""

    state: SourceState
    manifest: Manifest


def path_known_as(prefix: str, name: str) -> str:
    """The path that conda knows an environment by; `base` is the prefix itself."""
    return prefix if name == BASE else f"{prefix}/envs/{name}"


class SourceEnd:
    """The environment that is pushed, on this machine unless a subclass says otherwise.

    Safe to share between threads.
    """

    def __init__(self, end: End, prefix: str, name: str, local: Sequence[str]) -> None:
        self._end = end
        self._lock = threading.Lock()
        self._state: SourceState | None = None
        self._answers: dict[tuple[str, str], object] = {}
        self._confirmed: bool | None = None
        self._is_hashing = False
        # Set but for while it is scanned, which tells whether anything has to be hashed.
        self._scanned = threading.Event()
        self._scanned.set()
        self.serves_several = False
        self.path_known_as = path_known_as(prefix, name)
        """What conda knows it by, and what is written into its files."""
        self._open = {
            "prefix": prefix,
            "name": name,
            "local": list(local),
            "is_base": name == BASE,
        }
        opened = from_json(SourceOpened, end.call("source.open", self._open).document)
        self.place = opened.place
        """Where it stands, to tell whether a target is the same directory."""
        self._stands_at = opened.stands_at

    @property
    def server(self) -> str:
        return self._end.server

    @property
    def _agent_here(self) -> Source:
        """The agent's own object, where this end is in this process."""
        assert isinstance(self._end, LocalEnd)
        return self._end.service.source

    @property
    def relayed(self) -> Relayed | None:
        """How to get contents that another server reads and encodes; None where it is this one."""
        return self.relayed_for("")

    def relayed_for(self, there: str) -> Relayed | None:  # noqa: ARG002
        """The same for a target where the environment will stand at the path `there`."""
        return None

    @property
    def direct(self) -> Direct | None:
        """How it sends to a target by itself; None where it is this machine's."""
        return None

    @property
    def path(self) -> bytes:
        return self._agent_here.path

    def close(self) -> None:
        """Nothing to end here. May be called from any thread, more than once."""

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

    def outline(self) -> Outlined | None:
        """What can be sent before the files are hashed; None where they are."""
        found = self._agent_here.outline()
        return None if found is None else Outlined(*found)

    def manifest(self, known: bytes, there: str = "") -> bytes:
        """The manifest for a target that has the directories of these references.

        Where the environment will stand at another path, `there` is that path.
        """
        self.state()
        with self._lock:
            return self._end.call("source.manifest", {"there": there}, known).payload

    def packages(self) -> frozenset[bytes]:
        """The paths by which a target tells whether it has packages of this environment."""
        self.state()
        with self._lock:
            payload = self._end.call("source.packages").payload
        return frozenset(payload.split(b"\0")) if payload else frozenset()

    def relocation(self, there: str) -> RelocationFacts:
        """What the source becomes at another path."""
        self.state()
        return self._asked_once(RelocationFacts, "source.relocate", there)

    def items(self, paths: Sequence[bytes], there: str = "") -> Collection[Item]:
        """The files at these paths with their sizes in bytes, by the manifest."""
        self.state()
        return items_of(self._agent_here.version.manifest(there), paths)

    def contents(
        self,
        items: Collection[Item],
        progress: Callable[[int, int], None] | None = None,
        there: str = "",
    ) -> Iterator[bytes]:
        """The files' contents as one stream; each call reads for itself."""
        return self._agent_here.contents(items, progress, there)

    def sample(
        self, items: Collection[Item], codecs: Sequence[str], steps: Sequence[tuple[str, int]]
    ) -> SampleFacts:
        """What these files would come to on the wire (see `agent.source.sampling`).

        Without `steps`, as the source would encode them for a target that undoes `codecs`.
        """
        arguments = {
            "sizes": [size for _, size in items],
            "codecs": list(codecs),
            "steps": [list(step) for step in steps],
        }
        payload = b"\0".join(path for path, _ in items)
        with self._lock:
            answer = self._end.call("source.sample", arguments, payload)
        facts = from_json(SampleFacts, answer.document)
        if len(facts.packed_bytes) != max(1, len(steps)) or len(facts.seconds) < len(steps):
            raise AgentFailed("a sample of something else")
        return facts

    def mirrored(self, state: SourceState) -> SourceState:
        """What `state` is at the target; `PreflightRefused` where it cannot be had there."""
        return state

    def elsewhere(self, there: str = "") -> Container[bytes]:
        """The files whose contents do not stand below `path` as they have to be there."""
        return self._agent_here.version.rewritten(there)

    def may_name_another(self, there: str) -> bool:
        """Whether its files may name another path than that.

        Where a link leads to it here, they may name where that leads.
        """
        paths = {os.path.normpath(path) for path in (there, self.path_known_as, self._stands_at)}
        return len(paths) > 1

    def hashing_while_sent(self, there: str = "") -> AbstractContextManager[Contents, bool | None]:
        """Until the block ends, files are hashed by who reads these `contents`, and `state` waits.

        For a source that several pushes read, `contents` as ever: none holds up the others.
        """
        if self.serves_several:
            return contextlib.nullcontext(self.contents)
        return self._agent_here.hashing_while_sent(there)

    def outside(self, there: str = "") -> tuple[str, ...]:
        """What leads out of the environment, a line each, with paths as they are `there`."""
        found = self._asked_once(FindingsFacts, "source.findings", there)
        return tuple(finding.message for finding in found.findings)

    def credentials(self) -> tuple[str, ...]:
        """The files with a password or a token in them."""
        return self._asked_once(CredentialFacts, "source.credentials").paths

    def requirements(self) -> Requirements:
        """What it takes to make the environment again elsewhere."""
        self.state()
        return self._asked_once(Requirements, "source.requirements")

    def newest_glibc(self) -> tuple[bytes, tuple[int, ...]]:
        """The file that needs the newest glibc, and which that is."""
        self.state()
        told = self._asked_once(GlibcFacts, "source.glibc")
        return told.path.encode("utf-8", "surrogateescape"), told.version

    def _asked_once(self, cls: type[T], operation: str, there: str = "") -> T:
        """The answer about the version that was found, for as long as that is the last one."""
        with self._lock:
            key = operation, there
            if key not in self._answers:
                document = self._end.call(operation, {"there": there}).document
                self._answers[key] = from_json(cls, document)
            return cast("T", self._answers[key])

    def sees(self, nonce: str) -> bool:
        """Whether a target's lock stands in the source's own place."""
        with self._lock:
            answer = self._end.call("source.sees", {"nonce": nonce})
            return from_json(SeesFacts, answer.document).sees

    def had(self) -> tuple[str, ...]:
        """The revisions that this source has had, as far as this machine knows."""
        return tuple(self._agent_here.had.revisions())

    def remember(self, revision: str) -> None:
        """Note that this source has had the revision."""
        with self._lock:
            self._end.call("source.remember", {"revision": revision})

    def require_readable(self, paths: Sequence[bytes]) -> None:
        """Raise `StorageFailed` where this machine's disk does not give these files' contents."""
        try:
            self._agent_here.require_readable(paths)
        except EnvsyncError as error:
            error.server = self.server
            raise

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
        with self._lock:
            answer = self._end.call("source.inspect", {"fresh": True})
            return from_json(SourceState, answer.document).revision != self._state.revision

    def _inspect(self, on_progress: Progress | None = None) -> None:
        def relay(told: Mapping[str, Any]) -> None:
            if told.get("changed"):
                self._is_hashing = True
                self._scanned.set()
            elif on_progress:
                on_progress(told)

        self._scanned.clear()
        try:
            answer = self._end.call("source.inspect", on_progress=relay)
        finally:
            self._is_hashing = False
            self._scanned.set()
        self._state, self._confirmed = from_json(SourceState, answer.document), None
        self._answers = {}
