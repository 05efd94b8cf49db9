"""A stream in blocks, each compressed for itself, so that the sender can change its mind.

A block is a head (how, bytes that follow, bytes that they become) and data. It never
becomes more than `BLOCK_BYTES_MAX`, nor less than it was sent as: that bounds memory and
leaves a decompression bomb no room.
"""

from __future__ import annotations

import importlib.util
import shutil
import struct
import zlib
from typing import Any, List, Optional, Sequence, Tuple

from envsync.agent.zstd_command import ZstdCommand, raw_frame
from envsync.errors import TransferFailed

ZSTD, ZLIB, NONE = "zstd", "zlib", "none"
CHAINED = "zstd-chained"
"""zstd with the content of the block before it for a dictionary: a twentieth smaller, and half as
fast. Only zstd's module undoes it, and only in order."""
_TAGS = {NONE: 0, ZLIB: 1, ZSTD: 2, CHAINED: 3}
_NAMES = {tag: name for name, tag in _TAGS.items()}
_HEAD = struct.Struct("<BII")
# With its head, a block fits into one frame of the channel.
BLOCK_BYTES_MAX = (1 << 20) - 64


def available() -> Tuple[str, ...]:
    """What this interpreter can undo, the best first."""
    # Looked for, not loaded: a push that sends nothing never needs it.
    if importlib.util.find_spec("zstandard") is not None:
        return (ZSTD, ZLIB, NONE, CHAINED)
    return (ZSTD, ZLIB, NONE) if shutil.which("zstd") else (ZLIB, NONE)


def encodable() -> Tuple[str, ...]:
    """What this interpreter can compress with, the best first."""
    return (ZSTD, ZLIB, NONE, CHAINED) if _zstandard() is not None else (ZLIB, NONE)


def _zstandard() -> Any:
    try:
        import zstandard

        return zstandard
    except ImportError:
        return None


def _dictionary(before: bytes) -> Any:
    module = _zstandard()
    return module.ZstdCompressionDict(before, dict_type=module.DICT_TYPE_RAWCONTENT)


def encode(name: str, level: int, data: bytes, before: bytes = b"") -> bytes:
    """One block; what does not become a twentieth smaller goes as it is.

    `before` is the content of the block before it, for `CHAINED`; empty for the first.
    """
    packed = data
    if name == CHAINED and not before:
        name = ZSTD
    if name == CHAINED:
        compressor = _zstandard().ZstdCompressor(level=level, dict_data=_dictionary(before))
        packed = compressor.compress(data)
    elif name == ZSTD:
        packed = _zstandard().ZstdCompressor(level=level).compress(data)
    elif name == ZLIB:
        packed = zlib.compress(data, level)
    if len(packed) > len(data) * 0.95:
        name, packed = NONE, data
    return b"".join((_HEAD.pack(_TAGS[name], len(packed), len(data)), packed))


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
        """Without `use_module`, or where there is none, zstd is undone by the command."""
        self._rest = b""
        module = _zstandard() if use_module else None
        self._zstd: Any = None if module is None else module.ZstdDecompressor()
        self._before = b""
        self._command: Optional[ZstdCommand] = None

    def decode(self, data: bytes) -> List[bytes]:
        """The pieces of content that have become available."""
        if self._rest:
            data = self._rest + data
        view, at, end = memoryview(data), 0, len(data)
        pieces: List[bytes] = []
        while end - at >= _HEAD.size:
            tag, packed_bytes, size_bytes = _HEAD.unpack_from(data, at)
            if tag not in _NAMES or not 0 < packed_bytes <= size_bytes <= BLOCK_BYTES_MAX:
                raise _damaged()
            start = at + _HEAD.size
            if end - start < packed_bytes:
                break
            at = start + packed_bytes
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
        self._before = content
        if self._command is not None:
            # Behind what the command has not given back yet: so through it as well.
            return self._command.feed(raw_frame(content), size_bytes)
        return [content]

    def _unpack(self, name: str, packed: bytes, size_bytes: int) -> bytes:
        """The content; nothing where it would be longer than `size_bytes`."""
        try:
            if name == ZLIB:
                return _inflated(packed, size_bytes)
            # The module allocates at once what the frame says that it becomes.
            if _zstandard().frame_content_size(packed) != size_bytes:
                return b""
            machine = self._zstd
            if name == CHAINED:
                machine = _zstandard().ZstdDecompressor(dict_data=_dictionary(self._before))
            content: bytes = machine.decompress(packed, max_output_size=size_bytes)
        except Exception as error:
            raise _damaged() from error
        return content


def _inflated(packed: bytes, size_bytes: int) -> bytes:
    machine = zlib.decompressobj()
    content = machine.decompress(packed, size_bytes)
    # What a stream has after its content, its checksum, may need one more call.
    if machine.unconsumed_tail:
        content += machine.decompress(machine.unconsumed_tail, 1)
    return content if machine.eof else b""


def _damaged() -> TransferFailed:
    return TransferFailed("the compressed stream is damaged")
