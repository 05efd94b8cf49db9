"""Requests and answers: the one door to an end, in this process or across a session.

Each request names an operation and has arguments as JSON and perhaps a payload; so has its
answer. The same object serves the local end directly and the remote end through a channel.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

from envsync.agent import catalogue, codec
from envsync.agent.content_cache import cache_directory
from envsync.agent.facts import platform_facts, who
from envsync.agent.incoming import Incoming
from envsync.agent.messages import ReceiveFacts, from_json, to_json
from envsync.agent.publish import Check
from envsync.agent.source import Source, state_directory
from envsync.agent.target import Publication, Target
from envsync.errors import AgentFailed, TransferFailed
from envsync.tree import manifest as manifests
from envsync.tree.entry import Entry, InvalidEntry
from envsync.tree.manifest import Manifest

PROGRESS_SECONDS = 0.2
_REFERENCE_BYTES = 12

Arguments = Dict[str, Any]
Tell = Callable[[Dict[str, Any]], None]
Stream = Callable[[], Optional[bytes]]


class Answer(NamedTuple):
    """JSON-ready values and bytes."""

    document: Dict[str, Any]
    payload: bytes = b""


class Service:
    """An end. `tell` is called with progress while an operation runs."""

    def __init__(self, tell: Tell = lambda _: None) -> None:
        self._tell = tell
        self._source: Optional[Source] = None
        self._target: Optional[Target] = None
        self._fetches: Tuple[Tuple[bytes, Entry], ...] = ()

    def call(
        self, operation: str, arguments: Arguments, payload: bytes = b"", stream: Stream = bytes
    ) -> Answer:
        """Carry out one operation. Raises `EnvsyncError`; `stream` gives data until None."""
        handler = _OPERATIONS.get(operation)
        if handler is None:
            raise AgentFailed("an unknown operation: %r" % operation)
        try:
            return handler(self, arguments, payload, stream)
        except (KeyError, TypeError, ValueError) as error:
            raise AgentFailed("%s: %s: %s" % (operation, type(error).__name__, error)) from error

    @property
    def source(self) -> Source:
        if self._source is None:
            raise AgentFailed("no source was opened")
        return self._source

    @property
    def target(self) -> Target:
        if self._target is None:
            raise AgentFailed("no target was opened")
        return self._target

    # Both ends

    def _hello(self, arguments: Arguments, payload: bytes, stream: Stream) -> Answer:
        return Answer(
            {
                "who": who(),
                "codecs": list(codec.available()),
                "platform": to_json(platform_facts()),
                "time_seconds": time.time(),
                "python": sys.executable,
            }
        )

    def _list(self, arguments: Arguments, payload: bytes, stream: Stream) -> Answer:
        found = catalogue.environments(
            arguments["prefix"], arguments["local"], cache_directory(os.environ)
        )
        return Answer({"environments": [to_json(environment) for environment in found]})

    # The source

    def _open_source(self, arguments: Arguments, payload: bytes, stream: Stream) -> Answer:
        self._source = Source(
            arguments["prefix"],
            arguments["name"],
            arguments["local"],
            cache_directory(os.environ),
            state_directory(os.environ),
        )
        return Answer({"path": os.fsdecode(self._source.path)})

    def _inspect_source(self, arguments: Arguments, payload: bytes, stream: Stream) -> Answer:
        return Answer(to_json(self.source.inspect(self._counted("hash"))))

    def _source_manifest(self, arguments: Arguments, payload: bytes, stream: Stream) -> Answer:
        return Answer({}, self.source.encoded_manifest(frozenset(_references(payload))))

    def _source_findings(self, arguments: Arguments, payload: bytes, stream: Stream) -> Answer:
        return Answer({"findings": to_json(self.source.findings())})

    def _source_sees(self, arguments: Arguments, payload: bytes, stream: Stream) -> Answer:
        return Answer({"sees": self.source.sees(arguments["nonce"])})

    def _source_remember(self, arguments: Arguments, payload: bytes, stream: Stream) -> Answer:
        self.source.remember(arguments["revision"])
        return Answer({})

    # The target

    def _open_target(self, arguments: Arguments, payload: bytes, stream: Stream) -> Answer:
        self._target = Target(
            arguments["prefix"],
            arguments["name"],
            arguments["local"],
            cache_directory(os.environ),
            arguments["by"],
        )
        self._target.on_step = lambda step: self._tell({"step": step})
        return Answer({})

    def _inspect_target(self, arguments: Arguments, payload: bytes, stream: Stream) -> Answer:
        state = self.target.inspect(lock=arguments["lock"], progress=self._counted("hash"))
        return Answer(to_json(state))

    def _target_using(self, arguments: Arguments, payload: bytes, stream: Stream) -> Answer:
        return Answer({"processes": to_json(self.target.using())})

    def _target_references(self, arguments: Arguments, payload: bytes, stream: Stream) -> Answer:
        base = self.target.base_manifest()
        return Answer({}, b"".join(manifests.references(base)))

    def _target_differences(self, arguments: Arguments, payload: bytes, stream: Stream) -> Answer:
        other = self._manifest(payload) if payload else None
        return Answer(to_json(self.target.differences(other, arguments["paths_max"])))

    def _target_dry_plan(self, arguments: Arguments, payload: bytes, stream: Stream) -> Answer:
        return Answer(to_json(self.target.dry_plan(self._manifest(payload), arguments["keep"])))

    def _target_stage(self, arguments: Arguments, payload: bytes, stream: Stream) -> Answer:
        wanted = self._manifest(payload)
        facts, self._fetches = self.target.stage(wanted, arguments["keep"], self._counted("copy"))
        return Answer(
            {
                "plan": to_json(facts),
                "tree": os.fsdecode(self.target.staging.path),
                "token": self.target.staging.token,
            },
            b"\0".join([path for path, _ in self._fetches]),
        )

    def _manifest(self, payload: bytes) -> Manifest:
        try:
            return manifests.decode(payload, self.target.base_manifest())
        except InvalidEntry as error:
            raise AgentFailed("the source's manifest is not acceptable: %s" % error) from error

    def _target_receive(self, arguments: Arguments, payload: bytes, stream: Stream) -> Answer:
        items = self._items(payload)
        with_codec = codec.Decompressor(arguments["codec"])
        return Answer(to_json(self._receive(items, with_codec, stream)))

    def _target_unpack(self, arguments: Arguments, payload: bytes, stream: Stream) -> Answer:
        """Take a bundle that was copied beside the staging tree, instead of a stream."""
        path = os.path.join(os.path.dirname(self.target.staging.path), b"bundle")
        with_codec = codec.Decompressor(arguments["codec"])
        with open(path, "rb") as bundle:
            facts = self._receive(
                self._items(payload), with_codec, lambda: bundle.read(1 << 20) or None
            )
        os.unlink(path)
        return Answer(to_json(facts))

    def _items(self, payload: bytes) -> Sequence[Tuple[bytes, Entry]]:
        """All files that have to come, or those that `payload` names."""
        if not payload:
            return self._fetches
        wanted = set(payload.split(b"\0"))
        return [item for item in self._fetches if item[0] in wanted]

    def _receive(
        self,
        items: Sequence[Tuple[bytes, Entry]],
        with_codec: codec.Decompressor,
        stream: Stream,
    ) -> ReceiveFacts:
        incoming = self.target.receiver(items)
        report = _Report(self._tell, incoming)
        try:
            while True:
                data = stream()
                if data is None:
                    break
                for piece in with_codec.decompress(data):
                    incoming.feed(piece)
                report.now_and_then()
            incoming.finish()
        finally:
            incoming.abort()
        return ReceiveFacts(
            incoming.files, incoming.size_bytes, tuple(map(os.fsdecode, incoming.failed))
        )

    def _target_complete(self, arguments: Arguments, payload: bytes, stream: Stream) -> Answer:
        snapshot = self.target.complete(self._counted("verify"))
        return Answer({"revision": snapshot.revision, "hashed_bytes": snapshot.hashed_bytes})

    def _target_publish(self, arguments: Arguments, payload: bytes, stream: Stream) -> Answer:
        return Answer(to_json(self.target.publish(_publication(arguments))))

    def _target_adopt(self, arguments: Arguments, payload: bytes, stream: Stream) -> Answer:
        return Answer(to_json(self.target.adopt(_publication(arguments))))

    def _target_rollback(self, arguments: Arguments, payload: bytes, stream: Stream) -> Answer:
        record = self.target.rollback(arguments["number"], arguments["by"], arguments["overwrite"])
        return Answer(to_json(record))

    def _target_verify(self, arguments: Arguments, payload: bytes, stream: Stream) -> Answer:
        return Answer(to_json(self.target.verify(self._counted("verify"))))

    def _target_history(self, arguments: Arguments, payload: bytes, stream: Stream) -> Answer:
        return Answer({"events": self.target.history()})

    def _counted(self, what: str) -> Callable[[int], None]:
        """A progress callback that tells at most a few times a second."""
        state = {"bytes": 0, "told": 0.0}

        def add(size_bytes: int) -> None:
            state["bytes"] += size_bytes
            now = time.monotonic()
            if now - state["told"] >= PROGRESS_SECONDS:
                state["told"] = now
                self._tell({what + "_bytes": state["bytes"]})

        return add


class _Report:
    """Tells how far a transfer is, at most a few times a second."""

    def __init__(self, tell: Tell, incoming: Incoming) -> None:
        self._tell = tell
        self._incoming = incoming
        self._told = 0.0

    def now_and_then(self) -> None:
        now = time.monotonic()
        if now - self._told >= PROGRESS_SECONDS:
            self._told = now
            self._tell(
                {
                    "received_files": self._incoming.files,
                    "received_bytes": self._incoming.size_bytes,
                }
            )


def _references(payload: bytes) -> List[bytes]:
    if len(payload) % _REFERENCE_BYTES:
        raise TransferFailed("a list of references that is cut short")
    step = _REFERENCE_BYTES
    return [payload[at : at + step] for at in range(0, len(payload), step)]


def _publication(arguments: Arguments) -> Publication:
    check = from_json(Check, arguments["check"])
    return Publication(**{**from_json(_Plain, arguments)._asdict(), "check": check})


class _Plain(NamedTuple):
    """The fields of a `Publication` that are plain values."""

    source_revision: str
    source: str
    who: str
    method: str
    transport: str
    keep: int
    retry_held: bool


_OPERATIONS: Dict[str, Callable[[Service, Arguments, bytes, Stream], Answer]] = {
    "hello": Service._hello,
    "list": Service._list,
    "source.open": Service._open_source,
    "source.inspect": Service._inspect_source,
    "source.manifest": Service._source_manifest,
    "source.findings": Service._source_findings,
    "source.sees": Service._source_sees,
    "source.remember": Service._source_remember,
    "target.open": Service._open_target,
    "target.inspect": Service._inspect_target,
    "target.using": Service._target_using,
    "target.references": Service._target_references,
    "target.differences": Service._target_differences,
    "target.dry_plan": Service._target_dry_plan,
    "target.stage": Service._target_stage,
    "target.receive": Service._target_receive,
    "target.unpack": Service._target_unpack,
    "target.complete": Service._target_complete,
    "target.publish": Service._target_publish,
    "target.adopt": Service._target_adopt,
    "target.rollback": Service._target_rollback,
    "target.verify": Service._target_verify,
    "target.history": Service._target_history,
}
