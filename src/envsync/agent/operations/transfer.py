"""Operations that bring files' contents into the staging tree."""

from __future__ import annotations

import contextlib
import os
import stat
from typing import Collection, Optional, Tuple

from envsync.agent.operations.service import Service, Stream, handles
from envsync.agent.operations.target import manifest_of
from envsync.agent.server.filesystem import space
from envsync.agent.staging import scratch_files
from envsync.agent.staging.incoming import Incoming
from envsync.agent.staging.writing import TreeWriter
from envsync.agent.wire import codec
from envsync.agent.wire.figures import RECEIVED_FILES, RECEIVING
from envsync.agent.wire.target_operations import SentManifest
from envsync.agent.wire.transfer_operations import (
    BEGIN,
    BLOCKS,
    FIND_RSYNC,
    FREE_BYTES,
    LOCATE_BUNDLE,
    PATCH,
    PROBE,
    RECEIVE,
    STAMP,
    UNPACK_BUNDLE,
    AskBlocks,
    BundleFacts,
    ReceiveFacts,
    RsyncFacts,
)
from envsync.errors import AgentFailed, TransferFailed
from envsync.tree.entry import Entry

_BLOCK_BYTES = 1 << 20


@handles(RECEIVE)
def _receive(service: Service, paths: bytes) -> ReceiveFacts:
    return _take(service, service.push.receiver(_items(service, paths)), service.stream)


@handles(BEGIN)
def _begin(service: Service, request: SentManifest) -> Optional[ReceiveFacts]:
    """Before the source is hashed, build from a manifest without contents, and receive those.

    Data that arrives meanwhile waits in the channel, as much as that holds. While none is waiting,
    directories whose files have all arrived are listed.
    """
    begun = service.push.begin(manifest_of(service, request))
    if begun is None:
        return None
    service.tell(RECEIVING, 1)
    incoming, staging = service.push.receiver(begun.fetches), service.push.staging

    def stream() -> Optional[bytes]:
        while not service.pending() and staging.look_meanwhile(incoming.files):
            pass
        return service.stream()

    return _take(service, incoming, stream)


@handles(BLOCKS)
def _blocks(service: Service, request: AskBlocks) -> bytes:
    """Return the marks of what is there for the files in the payload, block by block."""
    bases, is_sample = service.push.bases(), request.is_sample
    paths = request.payload.split(b"\0")
    wanted = set(paths)
    sizes = {path: entry.size_bytes for path, entry in service.push.fetches if path in wanted}
    if sizes.keys() != wanted:
        raise AgentFailed("received a request for blocks of files that are not to be sent")
    return b"".join(bases.encoded_marks(path, sizes[path], is_sample) for path in paths)


@handles(PATCH)
def _patch(service: Service, paths: bytes) -> ReceiveFacts:
    return _take(service, service.push.patching(_items(service, paths)), service.stream)


def _items(service: Service, paths: bytes) -> Collection[Tuple[bytes, Entry]]:
    """Return the files that have to come: all, or those of the paths if there are any."""
    if not paths:
        return service.push.fetches
    wanted = set(paths.split(b"\0"))
    return [item for item in service.push.fetches if item[0] in wanted]


def _take(service: Service, incoming: Incoming, stream: Stream) -> ReceiveFacts:
    """Write the stream; report at most a few times a second how many files have arrived."""
    decoder, tell = codec.Decoder(), service.tell_seldom(RECEIVED_FILES)
    with contextlib.closing(decoder):
        try:
            while True:
                data = stream()
                pieces = decoder.finish() if data is None else decoder.decode(data)
                for piece in pieces:
                    incoming.feed(piece)
                if data is None:
                    break
                tell(incoming.files)
            incoming.finish()
        finally:
            incoming.abort()
    return ReceiveFacts(incoming.files, tuple(map(os.fsdecode, incoming.failed)))


# Bundles: the same stream, as a file


@handles(LOCATE_BUNDLE)
def _bundle(service: Service, _: None) -> BundleFacts:
    """Return a bundle's path, and the length and digest of what an earlier push left of one."""
    state, token = service.target.layout.state, service.push.staging.token
    size_bytes, digest = scratch_files.adopt_bundle(state, token)
    path = os.fsdecode(scratch_files.bundle(state, token))
    return BundleFacts(path, size_bytes, digest.hex(), space(state).free_bytes)


@handles(UNPACK_BUNDLE)
def _unpack(service: Service, paths: bytes) -> ReceiveFacts:
    path = scratch_files.bundle(service.target.layout.state, service.push.staging.token)
    try:
        with open(path, "rb") as bundle:
            incoming = service.push.receiver(_items(service, paths))
            return _take(service, incoming, lambda: bundle.read(_BLOCK_BYTES) or None)
    except FileNotFoundError:
        raise TransferFailed("the bundle is missing") from None
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


# rsync


@handles(FIND_RSYNC)
def _find_rsync(_: Service, __: None) -> RsyncFacts:
    """Return the path of the rsync here and its version text; both empty if there is none."""
    import shutil

    from envsync.agent.server.program_version import version_text

    path = shutil.which("rsync")
    return RsyncFacts(path or "", "" if path is None else version_text(path))


@handles(STAMP)
def _stamp(service: Service, paths: bytes) -> ReceiveFacts:
    """Give files that rsync brought their mode and mtime; those missing or cut off are failed."""
    writer = service.push.staging.writer
    items = _items(service, paths)
    failed = [path for path, entry in items if not _stamped(writer, path, entry)]
    return ReceiveFacts(len(items) - len(failed), tuple(map(os.fsdecode, failed)))


def _stamped(writer: TreeWriter, path: bytes, entry: Entry) -> bool:
    status = writer.status(path)
    if status is None or not stat.S_ISREG(status.st_mode) or status.st_size != entry.size_bytes:
        return False
    writer.stamp(path, entry)
    return True


@handles(PROBE)
def _probe(service: Service, _: None) -> None:
    """Receive a stream and discard it, so that the sender can measure the link."""
    while service.stream() is not None:
        pass


@handles(FREE_BYTES)
def _free_bytes(service: Service, _: None) -> int:
    return space(service.target.layout.state).free_bytes
