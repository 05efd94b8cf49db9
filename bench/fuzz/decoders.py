"""The decoders of foreign bytes, each as a function that may only end as documented."""

from __future__ import annotations

import contextlib
import functools
import queue
from collections.abc import Callable

from envsync.agent.staging.blocks import parse
from envsync.agent.wire import codec
from envsync.agent.wire.channel import Channel
from envsync.agent.wire.frames import EndOfInput, read_frame
from envsync.errors import AgentFailed, ConnectionLost, TransferFailed
from envsync.tree import listing as listings
from envsync.tree import manifest as manifests
from envsync.tree.entry import DIRECTORY, FILE, Entry, InvalidEntry, check_name
from envsync.tree.manifest import Manifest
from tests.support.trees import walk

CHUNK_BYTES = 7


def reader_of(data: bytes) -> Callable[[int], bytes]:
    """Return a read function that gives the bytes a few at a time, then the end."""
    rest = memoryview(data)

    def read(size: int) -> bytes:
        nonlocal rest
        part, rest = rest[: min(size, CHUNK_BYTES)], rest[min(size, CHUNK_BYTES) :]
        return bytes(part)

    return read


def frames(data: bytes) -> None:
    """Read frames until the end or the first invalid one."""
    read = reader_of(data)
    try:
        while True:
            read_frame(read)
    except (EndOfInput, AgentFailed):
        pass


class _Still(Channel):
    """A channel without threads, which queues all frames at once."""

    def queue_all(self) -> None:
        self._frames = queue.Queue()
        self._read_frames()


def messages(data: bytes) -> None:
    """Receive control frames with their payloads."""
    channel = _Still(reader_of(data), lambda _: None)
    channel.queue_all()
    try:
        while True:
            channel.receive_message()
    except (AgentFailed, ConnectionLost):
        pass


@functools.lru_cache(maxsize=1)
def base() -> Manifest:
    """Return a small tree that manifests can refer to."""
    top = [Entry(b"d", DIRECTORY, 0o755, 0, 0, b""), Entry(b"f", FILE, 0o644, 1, 0, bytes(32))]
    return Manifest({b"": listings.encode(top), b"d": b""}, 0o755, 0)


def manifest(data: bytes) -> None:
    """Decode a manifest: it is refused, or stays inside the tree and survives a round trip."""
    try:
        found = manifests.decode(data, base())
    except InvalidEntry:
        return
    assert manifests.decode(manifests.encode(found)) == found
    for path, entry in walk(found):
        for name in path.split(b"/"):
            check_name(name)
        assert not entry.mode & 0o002


def blocks(data: bytes) -> None:
    """Decode the blocks of a transfer, none of which may become larger than a block can be."""
    decoder = codec.Decoder()
    try:
        for start in range(0, len(data), 64):
            for piece in decoder.decode(data[start : start + 64]):
                assert len(piece) <= codec.BLOCK_BYTES_MAX
        decoder.finish()
    except TransferFailed:
        pass


def digests(data: bytes) -> None:
    """Parse a target's answer about the blocks that it has."""
    with contextlib.suppress(ValueError):
        for told in parse(data, [1 << 20, 1 << 17]):
            assert len(told.marks) <= told.count


DECODERS: dict[str, Callable[[bytes], None]] = {
    "frames": frames,
    "messages": messages,
    "manifest": manifest,
    "blocks": blocks,
    "digests": digests,
}
