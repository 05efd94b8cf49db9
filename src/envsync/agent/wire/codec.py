"""Compresses a stream in independent blocks, so that the sender can change the codec at any time.

A block is a head (how, bytes that follow, bytes that they become) and data. It never
becomes more than `BLOCK_BYTES_MAX`, nor less than it was sent as: that bounds memory and
leaves a decompression bomb no room.
"""

from __future__ import annotations

import functools
import os
import struct
import sys
import zlib
from typing import Any, List, Optional, Sequence, Tuple

from envsync.agent.wire.zstd_command import ZstdCommand, is_there, raw_frame
from envsync.errors import TransferFailed

ZSTD, ZLIB, NONE = "zstd", "zlib", "none"
STREAMED = "zstd-streamed"
"""zstd that goes on from the blocks before: smaller than of each block for itself, and no slower.
Only zstd's module undoes it, and only in order."""
_TAGS = {NONE: 0, ZLIB: 1, ZSTD: 2, STREAMED: 3}
_NAMES = {tag: name for name, tag in _TAGS.items()}
_ANEW = 4
"""The tag of a streamed block that goes on from none."""
_NAMES[_ANEW] = STREAMED
_HEAD = struct.Struct("<BII")
# With its head, and what zstd adds to what it cannot compress, a block fits into one frame of
# the channel.
BLOCK_BYTES_MAX = (1 << 20) - 1024
_OVERHEAD_BYTES_MAX = 512
_WINDOW_LOG = 20
"""How far back a streamed block refers: no farther than what both ends keep in memory anyway."""
_WINDOW_BYTES_MAX = 1 << _WINDOW_LOG
_TRIED = b"tried " * 20
_TRIED_STREAM = (
    b"(\xb5/\xfd\x00Pl\x00\x000tried \x01\x00/i)\x02",
    b"<\x00\x00\x08t\x01\x004\x05B",
)
"""That twice, the second time going on from the first."""
_TRIED_LEVEL = -5
"""The least that is asked for: releases that are too old have none below 1."""


def undone() -> Tuple[str, ...]:
    """What this interpreter can undo, the best first: found out by having it do that.

    A module that is there may be one for another Python, or of a release that lacks what is
    used here. The first call loads it, which takes some ms: it is for who is about to send.
    """
    names = [name for name in (STREAMED, ZSTD) if _module_undoes(name)]
    if ZSTD not in names and is_there():
        names.append(ZSTD)
    return (*names, ZLIB, NONE)


def encodable() -> Tuple[str, ...]:
    """What this interpreter can compress with, the best first; found out in the same way."""
    return (*(name for name in (STREAMED, ZSTD) if _module_makes(name)), ZLIB, NONE)


@functools.lru_cache(maxsize=None)
def _zstandard() -> Any:
    """The interpreter's module; None where there is none that can be loaded."""
    if sys.flags.no_site:
        # As the agent runs: nothing has said where modules are that do not come with Python.
        import site

        # The first also for a virtual environment, of which only `site` would know. What is said
        # of it by Debian's Python is true of Debian's own directories alone.
        prefix = os.path.dirname(os.path.dirname(sys.executable))
        usual = os.path.join(prefix, "lib", "python%d.%d" % sys.version_info[:2], "site-packages")
        found = [usual, *site.getsitepackages([prefix, sys.prefix])]
        sys.path += [path for path in found if path not in sys.path]
    try:
        import zstandard
    except Exception:  # noqa: BLE001  (what a binary says that does not fit is its own affair)
        return None
    return zstandard


@functools.lru_cache(maxsize=None)
def _module_undoes(name: str) -> bool:
    module = _zstandard()
    if module is None:
        return False
    try:
        if name == ZSTD:
            machine = module.ZstdDecompressor()
            return _whole(module, machine, raw_frame(_TRIED), len(_TRIED)) == _TRIED
        streamed = _Streamed(module)
        return all(streamed.block(packed, len(_TRIED)) == _TRIED for packed in _TRIED_STREAM)
    except Exception:  # noqa: BLE001  (in whatever way it fails, it is not to be relied on)
        return False


@functools.lru_cache(maxsize=None)
def _module_makes(name: str) -> bool:
    if _zstandard() is None:
        return False
    try:
        Encoder(name, _TRIED_LEVEL).block(_TRIED)
    except Exception:  # noqa: BLE001  (as above)
        return False
    return True


def encode(name: str, level: int, data: bytes) -> bytes:
    """One block; what does not become a twentieth smaller goes as it is."""
    packed = data
    if name == ZSTD:
        packed = _zstandard().ZstdCompressor(level=level).compress(data)
    elif name == ZLIB:
        packed = zlib.compress(data, level)
    if len(packed) > len(data) * 0.95:
        name, packed = NONE, data
    return b"".join((_HEAD.pack(_TAGS[name], len(packed), len(data)), packed))


class Encoder:
    """Makes blocks one after the other; `STREAMED` ones have to be undone in that order."""

    def __init__(self, name: str, level: int) -> None:
        self._name = name
        self._level = level
        self._machine: Any = None

    def block(self, data: bytes) -> bytes:
        """The next one, of at most `BLOCK_BYTES_MAX` bytes."""
        if self._name != STREAMED:
            return encode(self._name, self._level, data)
        module, tag = _zstandard(), _TAGS[STREAMED]
        if self._machine is None:
            tag = _ANEW
            parameters = module.ZstdCompressionParameters.from_level(
                self._level, window_log=_WINDOW_LOG
            )
            self._machine = module.ZstdCompressor(compression_params=parameters).compressobj()
        packed = self._machine.compress(data)
        packed += self._machine.flush(module.COMPRESSOBJ_FLUSH_BLOCK)
        return b"".join((_HEAD.pack(tag, len(packed), len(data)), packed))


def content_bytes(block: bytes) -> int:
    """How many bytes a block says that it becomes; 0 where it has no head."""
    return int(_HEAD.unpack_from(block)[2]) if len(block) >= _HEAD.size else 0


def encode_all(name: str, level: int, data: bytes) -> bytes:
    """All of it as blocks."""
    starts = range(0, len(data), BLOCK_BYTES_MAX)
    return b"".join(encode(name, level, data[at : at + BLOCK_BYTES_MAX]) for at in starts)


def decode_all(data: bytes, size_bytes_max: int) -> bytes:
    """What `encode_all` was given; `TransferFailed` where it is damaged or becomes larger."""
    decoder = Decoder()
    pieces: List[bytes] = []
    size_bytes = 0
    try:
        for at in range(0, len(data), BLOCK_BYTES_MAX):
            for piece in decoder.decode(data[at : at + BLOCK_BYTES_MAX]):
                pieces.append(piece)
                size_bytes += len(piece)
            if size_bytes > size_bytes_max:
                raise _damaged()
        pieces += decoder.finish()
    finally:
        decoder.close()
    return b"".join(pieces)


class Decoder:
    """Undoes a stream of blocks, however it was cut on the way.

    Raises `TransferFailed` where the stream is damaged or breaks its rules.
    """

    def __init__(self, use_module: bool = True) -> None:
        """Without `use_module`, or where there is none of use, zstd is undone by the command."""
        self._rest = b""
        has_module = use_module and _module_undoes(ZSTD)
        self._zstd: Any = _zstandard().ZstdDecompressor() if has_module else None
        self._streamed: Optional[_Streamed] = None
        self._command: Optional[ZstdCommand] = None

    def decode(self, data: bytes) -> List[bytes]:
        """The pieces of content that have become available."""
        if self._rest:
            data = self._rest + data
        view, at, end = memoryview(data), 0, len(data)
        pieces: List[bytes] = []
        while end - at >= _HEAD.size:
            tag, packed_bytes, size_bytes = _HEAD.unpack_from(data, at)
            if tag not in _NAMES or not 0 < size_bytes <= BLOCK_BYTES_MAX:
                raise _damaged()
            more = _OVERHEAD_BYTES_MAX if _NAMES[tag] == STREAMED else 0
            if not 0 < packed_bytes <= size_bytes + more:
                raise _damaged()
            start = at + _HEAD.size
            if end - start < packed_bytes:
                break
            at = start + packed_bytes
            if tag == _ANEW:
                self._streamed = None
            pieces += self._block(_NAMES[tag], bytes(view[start:at]), size_bytes)
        self._rest = bytes(view[at:])
        return pieces

    def finish(self) -> Sequence[bytes]:
        """The stream is over: what is left of its content."""
        if self._rest:
            raise _damaged()
        return [] if self._command is None else self._command.finish()

    def close(self) -> None:
        """End what still runs. May be called more than once."""
        if self._command is not None:
            self._command.close()

    def _block(self, name: str, packed: bytes, size_bytes: int) -> Sequence[bytes]:
        if name == ZSTD and self._zstd is None:
            if self._command is None:
                self._command = ZstdCommand()
            return self._command.feed(packed, size_bytes)
        content = packed if name == NONE else self._unpack(name, packed, size_bytes)
        if len(content) != size_bytes:
            raise _damaged()
        if self._command is not None:
            # Behind what the command has not given back yet: so through it as well.
            return self._command.feed(raw_frame(content), size_bytes)
        return [content]

    def _unpack(self, name: str, packed: bytes, size_bytes: int) -> bytes:
        """The content; nothing where it would be longer than `size_bytes`."""
        try:
            if name == ZLIB:
                return _inflated(packed, size_bytes)
            if name == STREAMED:
                if self._streamed is None:
                    self._streamed = _Streamed(_zstandard())
                return self._streamed.block(packed, size_bytes)
            return _whole(_zstandard(), self._zstd, packed, size_bytes)
        except Exception as error:
            raise _damaged() from error


def _whole(module: Any, machine: Any, frame: bytes, size_bytes: int) -> bytes:
    """What a frame becomes; nothing where that would be another size."""
    # The module allocates at once what the frame says that it becomes.
    if module.frame_content_size(frame) != size_bytes:
        return b""
    content: bytes = machine.decompress(frame, max_output_size=size_bytes)
    return content


class _Streamed:
    """Undoes blocks that go on from one another, and takes no more memory than one of them."""

    def __init__(self, module: Any) -> None:
        self._packed = b""
        machine = module.ZstdDecompressor(max_window_size=_WINDOW_BYTES_MAX)
        self._reader = machine.stream_reader(self, read_size=BLOCK_BYTES_MAX)

    def block(self, packed: bytes, size_bytes: int) -> bytes:
        """The content of the next block; shorter where it has less than that."""
        self._packed = packed
        content: bytes = self._reader.read(size_bytes)
        return content

    def read(self, size_bytes: int) -> bytes:
        """What the decompressor asks for more of."""
        if not self._packed:
            raise _damaged()
        part, self._packed = self._packed[:size_bytes], self._packed[size_bytes:]
        return part


def _inflated(packed: bytes, size_bytes: int) -> bytes:
    machine = zlib.decompressobj()
    content = machine.decompress(packed, size_bytes)
    # What a stream has after its content, its checksum, may need one more call.
    if machine.unconsumed_tail:
        content += machine.decompress(machine.unconsumed_tail, 1)
    return content if machine.eof else b""


def _damaged() -> TransferFailed:
    return TransferFailed("the compressed stream is damaged")
