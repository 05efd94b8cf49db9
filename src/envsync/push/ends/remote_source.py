"""A source on another server: its own agent inspects it, reads it and encodes what is sent.

Contents go from there to the target through this machine as one stream, encoded once. What
comes from there is believed no more than what comes from a target: the manifest is checked
entry by entry, and its revision is computed here.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Collection, Container, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from envsync.agent.operations import bootstrap
from envsync.agent.source.own_way import ReachFacts, RsyncEnded
from envsync.agent.wire.checked_json import from_json
from envsync.agent.wire.codec import content_bytes
from envsync.agent.wire.short_answers import RsyncFacts
from envsync.errors import AgentFailed, EnvsyncError
from envsync.push.ends.end import Answer, RemoteEnd
from envsync.push.ends.items import items_of
from envsync.push.ends.source_end import Outlined, SourceEnd
from envsync.push.order.places import Place
from envsync.ssh.session import Link
from envsync.transport.job import Contents, Direct, Item, Relayed
from envsync.tree import manifest as manifests
from envsync.tree.entry import InvalidEntry
from envsync.tree.manifest import REFERENCE_BYTES, Manifest
from envsync.tree.revision import revision_of

_SILENCE_SECONDS = 10.0
_SILENT_MAX = 2


class RemoteSource(SourceEnd):
    """The environment at a place that is another server. Close it when the pushes are done."""

    def __init__(self, place: Place, name: str, local: Sequence[str]) -> None:
        assert place.open_link is not None, "another server is reached by a link"
        self._place = place
        self._links = contextlib.ExitStack()
        self._checked: dict[str, Manifest] = {}
        self.own_way = OwnWay()
        try:
            self._link = self._links.enter_context(contextlib.closing(place.open_link()))
            end = RemoteEnd(self._link, place.prefix)
            self._links.callback(end.close)
            super().__init__(end, place.prefix, name, local)
        except BaseException:
            self._links.close()
            raise

    def close(self) -> None:
        """End the agent and the link. May be called more than once."""
        self._links.close()

    @property
    def link(self) -> Link:
        return self._link

    @property
    def path(self) -> bytes:
        """Nothing on this machine."""
        return b""

    def outline(self) -> Outlined | None:
        return None

    def hashing_while_sent(
        self,
        there: str = "",  # noqa: ARG002
    ) -> AbstractContextManager[Contents, bool | None]:
        return contextlib.nullcontext(self.contents)

    def manifest(self, known: bytes, there: str = "") -> bytes:
        references = (
            known[at : at + REFERENCE_BYTES] for at in range(0, len(known), REFERENCE_BYTES)
        )
        return manifests.encode(self._manifest(there), frozenset(references))

    def items(self, paths: Sequence[bytes], there: str = "") -> Collection[Item]:
        return items_of(self._manifest(there), paths)

    def elsewhere(self, there: str = "") -> Container[bytes]:  # noqa: ARG002
        """Nothing stands on this machine, and what comes from there is as it has to be."""
        return frozenset()

    def _manifest(self, there: str) -> Manifest:
        """What stands there, checked; asked for once for each state and place."""
        revision = self.relocation(there).revision if there else self.state().revision_there
        with self._lock:
            if revision not in self._checked:
                payload = self._end.call("source.manifest", {"there": there}).payload
                self._checked[revision] = _checked(payload, revision)
            return self._checked[revision]

    def contents(
        self,
        items: Collection[Item],  # noqa: ARG002
        progress: Callable[[int, int], None] | None = None,  # noqa: ARG002
        there: str = "",  # noqa: ARG002
    ) -> Iterator[bytes]:
        raise AgentFailed("the contents of another server's environment come encoded")

    def relayed_for(self, there: str) -> Relayed | None:
        def relay(
            items: Collection[Item], codecs: Sequence[str], progress: Callable[[int], None]
        ) -> Iterator[bytes]:
            return self._relay(items, codecs, progress, there)

        return relay

    def _relay(
        self,
        items: Collection[Item],
        codecs: Sequence[str],
        progress: Callable[[int], None],
        there: str,
    ) -> Iterator[bytes]:
        """Encoded blocks, by an agent of their own: other pushes can ask meanwhile."""
        sizes = [size for _, size in items]
        arguments = {"codecs": list(codecs), "sizes": sizes, "there": there}
        payload = b"\0".join(path for path, _ in items)
        with self.sender() as end:
            end.call("source.open", self._open)
            state = self.state()
            if there or state.revision_there != state.revision:
                end.call("source.inspect")
            for block in end.receive("source.send", arguments, payload):
                yield block
                progress(content_bytes(block))

    def ask(self, operation: str, arguments: Mapping[str, Any] | None = None) -> Answer:
        """Carry out one operation of the agent there."""
        with self._lock:
            return self._end.call(operation, arguments)

    @contextlib.contextmanager
    def sender(self) -> Iterator[RemoteEnd]:
        """An agent there of its own, until the block ends."""
        with contextlib.ExitStack() as stack:
            try:
                end = RemoteEnd(self._link, self._place.prefix)
            except EnvsyncError:
                # A server that grants one session to a connection.
                assert self._place.open_link is not None
                link = stack.enter_context(contextlib.closing(self._place.open_link()))
                end = RemoteEnd(link, self._place.prefix)
            stack.callback(end.close)
            yield end

    @contextlib.contextmanager
    def borrower(self) -> Iterator[RemoteEnd | None]:
        """An agent there that has the user's own ssh agent, and a link of its own, until the
        block ends; None where the user's ssh configuration does not forward that."""
        link = self._link.lending()
        if link is None:
            yield None
            return
        command = bootstrap.COMMAND_WITH_AGENT
        with (
            contextlib.closing(link),
            contextlib.closing(RemoteEnd(link, self._place.prefix, command)) as end,
        ):
            yield end

    @property
    def direct(self) -> Direct | None:
        return _Direct(self)

    def require_readable(self, paths: Sequence[bytes]) -> None:
        with self._lock:
            self._end.call("source.readable", payload=b"\0".join(paths))


class OwnWay:
    """Whether it is worth waiting for a source to get into targets by itself, for one command.

    A firewall that drops what the source begins is silent to each target anew. Where several
    tries have ended in silence, and none got in, there are no more. Safe to share between threads.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._silent = 0
        self._got_in = False

    def tried(self, attempt: Callable[[], ReachFacts]) -> ReachFacts:
        """What the attempt finds; it is not made where it would be in vain."""
        if self._silent >= _SILENT_MAX and not self._got_in:
            return ReachFacts(-1, "nor did it get an answer from others")
        began_seconds = self._clock()
        found = attempt()
        was_silent = self._clock() - began_seconds > _SILENCE_SECONDS
        with self._lock:
            self._got_in = self._got_in or found.which >= 0
            self._silent += found.which < 0 and was_silent
        return found


class _Direct:
    """What a source does to send to the target by itself; each push asks anew."""

    def __init__(self, source: RemoteSource) -> None:
        self._source = source
        self._rsync: RsyncFacts | None = None
        self._reached: ReachFacts | None = None
        self.agent_forwarded = False

    @property
    def server(self) -> str:
        return self._source.server

    @property
    def source_path(self) -> bytes:
        return os.fsencode(self._source.state().path)

    def rsync(self) -> RsyncFacts:
        if self._rsync is None:
            self._rsync = from_json(RsyncFacts, self._source.ask("transfer.rsync").document)
        return self._rsync

    def reach(self, commands: Sequence[Sequence[str]]) -> ReachFacts:
        if self._reached is None:
            arguments = {"commands": [list(command) for command in commands]}
            self._reached = self._source.own_way.tried(lambda: self._tried(arguments))
        return self._reached

    def _tried(self, arguments: Mapping[str, Any]) -> ReachFacts:
        # It may take a minute, in which other pushes have questions to the source's agent.
        with self._source.sender() as end:
            found = from_json(ReachFacts, end.call("source.reach", arguments).document)
        return found if found.which >= 0 else self._reach_with_agent(arguments) or found

    def _reach_with_agent(self, arguments: Mapping[str, Any]) -> ReachFacts | None:
        """The same with the user's agent; None where that is not forwarded."""
        try:
            with self._source.borrower() as end:
                if end is None:
                    return None
                self.agent_forwarded = True
                answer = end.call("source.reach", arguments)
        except EnvsyncError as error:
            return ReachFacts(-1, error.message)
        return from_json(ReachFacts, answer.document)

    def run(
        self, argv: Sequence[bytes], paths: Sequence[bytes]
    ) -> Generator[bytes, None, RsyncEnded]:
        arguments = {"argv": [os.fsdecode(argument) for argument in argv]}
        source, borrows = self._source, self.agent_forwarded
        try:
            with source.borrower() if borrows else source.sender() as end:
                if end is None:
                    return RsyncEnded(-1, "no agent listens any more")
                answer = yield from end.receive("source.rsync", arguments, b"\0".join(paths))
        except EnvsyncError as error:
            if not borrows:
                raise
            # That link is one of its own: the other way is not lost with it.
            return RsyncEnded(-1, error.message)
        return from_json(RsyncEnded, answer.document)


def _checked(payload: bytes, revision: str) -> Manifest:
    """A manifest from another server; `AgentFailed` where it breaks a rule, or is of another
    version than was told."""
    try:
        manifest = manifests.decode(payload)
    except InvalidEntry as error:
        raise AgentFailed(f"the source's manifest is not acceptable: {error}") from error
    if revision_of(manifest) != revision:
        raise AgentFailed("the source's manifest is of another version than it said")
    return manifest

