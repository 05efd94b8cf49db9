"""Operations that build and publish on a target."""

from __future__ import annotations

import os
import time
from typing import Callable, Dict, NamedTuple, Sequence, Tuple

from envsync.agent import codec
from envsync.agent.incoming import Incoming
from envsync.agent.messages import ReceiveFacts, from_json, to_json
from envsync.agent.operations_target import manifest_of
from envsync.agent.publish import Check
from envsync.agent.service import PROGRESS_SECONDS, Answer, Request, Service, Stream, Tell
from envsync.agent.target_push import Publication
from envsync.tree.entry import Entry


def _stage(service: Service, request: Request) -> Answer:
    wanted = manifest_of(service, request)
    keep = request.arguments["keep"]
    facts, service.fetches = service.push.stage(wanted, keep, service.counted("copy"))
    return Answer(
        {
            "plan": to_json(facts),
            "tree": os.fsdecode(service.push.staging.path),
            "token": service.push.staging.token,
        },
        b"\0".join([path for path, _ in service.fetches]),
    )


def _receive(service: Service, request: Request) -> Answer:
    with_codec = codec.Decompressor(request.arguments["codec"])
    items = _items(service, request)
    return Answer(to_json(_take(service, items, with_codec, request.stream)))


def _unpack(service: Service, request: Request) -> Answer:
    """Take a bundle that was copied beside the staging tree, instead of a stream."""
    path = os.path.join(os.path.dirname(service.push.staging.path), b"bundle")
    with_codec = codec.Decompressor(request.arguments["codec"])
    items = _items(service, request)
    with open(path, "rb") as bundle:
        facts = _take(service, items, with_codec, lambda: bundle.read(1 << 20) or None)
    os.unlink(path)
    return Answer(to_json(facts))


def _items(service: Service, request: Request) -> Sequence[Tuple[bytes, Entry]]:
    """All files that have to come, or those that the payload names."""
    if not request.payload:
        return service.fetches
    wanted = set(request.payload.split(b"\0"))
    return [item for item in service.fetches if item[0] in wanted]


def _take(
    service: Service,
    items: Sequence[Tuple[bytes, Entry]],
    with_codec: codec.Decompressor,
    stream: Stream,
) -> ReceiveFacts:
    incoming = service.push.receiver(items)
    report = _Report(service.tell, incoming)
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
    failed = tuple(map(os.fsdecode, incoming.failed))
    return ReceiveFacts(incoming.files, incoming.size_bytes, failed)


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
            files, size_bytes = self._incoming.files, self._incoming.size_bytes
            self._tell({"received_files": files, "received_bytes": size_bytes})


def _complete(service: Service, request: Request) -> Answer:
    snapshot = service.push.complete(service.counted("verify"))
    return Answer({"revision": snapshot.revision, "hashed_bytes": snapshot.hashed_bytes})


def _publish(service: Service, request: Request) -> Answer:
    return Answer(to_json(service.push.publish(_publication(request))))


def _adopt(service: Service, request: Request) -> Answer:
    return Answer(to_json(service.push.adopt(_publication(request))))


def _rollback(service: Service, request: Request) -> Answer:
    arguments = request.arguments
    record = service.push.rollback(arguments["number"], arguments["by"], arguments["overwrite"])
    return Answer(to_json(record))


class _Plain(NamedTuple):
    """The fields of a `Publication` that are plain values."""

    source_revision: str
    source: str
    who: str
    method: str
    transport: str
    keep: int
    retry_held: bool


def _publication(request: Request) -> Publication:
    check = from_json(Check, request.arguments["check"])
    plain = from_json(_Plain, request.arguments)
    return Publication(check=check, **plain._asdict())


OPERATIONS: Dict[str, Callable[[Service, Request], Answer]] = {
    "stage": _stage,
    "receive": _receive,
    "unpack": _unpack,
    "complete": _complete,
    "publish": _publish,
    "adopt": _adopt,
    "rollback": _rollback,
}
