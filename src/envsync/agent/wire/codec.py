"""Compresses a stream in independent blocks, so that the sender can change the codec at any time.

A block is a head (codec tag, compressed size, content size) and the compressed data. The content
is never larger than `BLOCK_BYTES_MAX`, nor smaller than the compressed data (but for a small
overhead of streamed blocks). That bounds memory and rules out decompression bombs.
"""

from __future__ import annotations

import contextlib
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
"""zstd as one stream across blocks: smaller than each block by itself, and no slower. Only the
zstandard module can decode it, and only in order."""
_TAGS = {NONE: 0, ZLIB: 1, ZSTD: 2, STREAMED: 3}
_NAMES = {tag: name for name, tag in _TAGS.items()}
_ANEW = 4
"""The tag of a streamed block that starts a new stream."""
_NAMES[_ANEW] = STREAMED
_HEAD = struct.Struct("<BII")
# With its head, and zstd's overhead for incompressible data, a block fits into one frame of the
# channel.
BLOCK_BYTES_MAX = (1 << 20) - 1024
_OVERHEAD_BYTES_MAX = 512
_WINDOW_LOG = 20
"""How far back a streamed block refers, as a power of two: no farther than both ends keep in memory
anyway."""
_WINDOW_BYTES_MAX = 1 << _WINDOW_LOG
_QUICK_HASH_LOG = 15
"""The size of the match table below level 0, as a power of two. zstd's own, 13, is for a window of
128 KiB, and finds fewer matches in ours."""
_TRIED = b"tried " * 20
_TRIED_LEVEL = -10
"""The lowest level in use, which modules that are too old do not support."""


def decodable() -> Tuple[str, ...]:
    """Return the codecs that this interpreter or the command can decode, the best first.

    The module is tried, because it may be for another Python, or of a release that lacks
    functions used here. The first call loads the module, which takes some milliseconds, so make it
    only when contents are about to be sent.
    """
    names = [name for name in (STREAMED, ZSTD) if _works(name)]
    if ZSTD not in names and is_there():
        names.append(ZSTD)
    return (*names, ZLIB, NONE)


def encodable() -> Tuple[str, ...]:
    """Return the codecs that this interpreter can encode, the best first; the module is tried."""
    return (*(name for name in (STREAMED, ZSTD) if _works(name)), ZLIB, NONE)


@functools.lru_cache(maxsize=None)
def _zstandard() -> Any:
    """Return the interpreter's zstandard module, or None if it cannot be loaded."""
    if sys.flags.no_site:
        # The agent runs like this, and then sys.path lacks the site-packages directories.
        import site

        # Debian's `getsitepackages` leaves out `usual`, even in a virtual environment, which is not
        # recognized without `site`.
        prefix = os.path.dirname(os.path.dirname(sys.executable))
        usual = os.path.join(
            prefix, "lib", f"python{sys.version_info[0]}.{sys.version_info[1]}", "site-packages"
        )
        found = [usual, *site.getsitepackages([prefix, sys.prefix])]
        sys.path += [path for path in found if path not in sys.path]
    try:
        import zstandard
    except Exception:  # noqa: BLE001  (a binary that does not fit may raise anything)
        return None
    return zstandard


@functools.lru_cache(maxsize=None)
def _works(name: str) -> bool:
    """Return whether the module makes blocks of this codec and undoes them."""
    module = _zstandard()
    if module is None:
        return False
    try:
        encoder = Encoder(name, _TRIED_LEVEL)
        # Two, because the second streamed block continues the first.
        blocks = [encoder.block(_TRIED)[_HEAD.size :] for _ in range(2)]
        if name == STREAMED:
            streamed = _Streamed(module)
            return all(streamed.block(block, len(_TRIED)) == _TRIED for block in blocks)
        machine = module.ZstdDecompressor()
        return all(_whole(module, machine, block, len(_TRIED)) == _TRIED for block in blocks)
    except Exception:  # noqa: BLE001  (however it fails, it cannot be relied on)
        return False


def encode(name: str, level: int, data: bytes) -> bytes:
    """Return one block; data that would not shrink by at least 5% is stored uncompressed."""
    packed = data
    if name == ZSTD:
        packed = _zstandard().ZstdCompressor(level=level).compress(data)
    elif name == ZLIB:
        packed = zlib.compress(data, level)
    if len(packed) > len(data) * 0.95:
        name, packed = NONE, data
    return b"".join((_HEAD.pack(_TAGS[name], len(packed), len(data)), packed))


class Encoder:
    """Makes blocks one after the other; `STREAMED` ones have to be decoded in the same order."""

    def __init__(self, name: str, level: int) -> None:
        self._name = name
        self._level = level
        self._machine: Any = None

    def block(self, data: bytes) -> bytes:
        """Return the next block; `data` has at most `BLOCK_BYTES_MAX` bytes."""
        if self._name != STREAMED:
            return encode(self._name, self._level, data)
        module, tag = _zstandard(), _TAGS[STREAMED]
        if self._machine is None:
            tag = _ANEW
            quick = {"hash_log": _QUICK_HASH_LOG} if self._level < 0 else {}
            parameters = module.ZstdCompressionParameters.from_level(
                self._level, window_log=_WINDOW_LOG, **quick
            )
            self._machine = module.ZstdCompressor(compression_params=parameters).compressobj()
        packed = self._machine.compress(data)
        rest = self._machine.flush(module.COMPRESSOBJ_FLUSH_BLOCK)
        return b"".join((_HEAD.pack(tag, len(packed) + len(rest), len(data)), packed, rest))


def content_bytes(block: bytes) -> int:
    """Return the content size in a block's head; 0 if it has no complete head."""
    return int(_HEAD.unpack_from(block)[2]) if len(block) >= _HEAD.size else 0


def encode_all(level: int, data: bytes) -> bytes:
    """Encode all data as blocks of zstd."""
    starts = range(0, len(data), BLOCK_BYTES_MAX)
    return b"".join(encode(ZSTD, level, data[at : at + BLOCK_BYTES_MAX]) for at in starts)


def decode_all(data: bytes, size_bytes_max: int) -> bytes:
    """Decode what `encode_all` returned; `TransferFailed` if it is damaged or too large."""
    pieces: List[bytes] = []
    size_bytes = 0
    with contextlib.closing(Decoder()) as decoder:
        for at in range(0, len(data), BLOCK_BYTES_MAX):
            for piece in decoder.decode(data[at : at + BLOCK_BYTES_MAX]):
                pieces.append(piece)
                size_bytes += len(piece)
            if size_bytes > size_bytes_max:
                raise _damaged()
        pieces += decoder.finish()
    return b"".join(pieces)


class Decoder:
    """Decodes a stream of blocks that arrives in parts of any size.

    Methods raise `TransferFailed` if the stream is damaged or malformed.
    """

    def __init__(self) -> None:
        """Without a usable module, the command decodes zstd."""
        self._rest = b""
        self._zstd: Any = _zstandard().ZstdDecompressor() if _works(ZSTD) else None
        self._streamed: Optional[_Streamed] = None
        self._command: Optional[ZstdCommand] = None

    def decode(self, data: bytes) -> List[bytes]:
        """Take the next bytes; return the pieces of content that have become available."""
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
        """End the stream; return the rest of its content."""
        if self._rest:
            raise _damaged()
        return [] if self._command is None else self._command.finish()

    def close(self) -> None:
        """End the command if it still runs. May be called more than once."""
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
            # The command may still hold earlier content, so keep the order by using it here too.
            return self._command.feed(raw_frame(content), size_bytes)
        return [content]

    def _unpack(self, name: str, packed: bytes, size_bytes: int) -> bytes:
        """Return the content; if it has not `size_bytes`, something of another length."""
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
    """Return a frame's content; b"" if it claims another size."""
    # Check first, because the module at once allocates the size that the frame claims.
    if module.frame_content_size(frame) != size_bytes:
        return b""
    content: bytes = machine.decompress(frame, max_output_size=size_bytes)
    return content


class _Streamed:
    """Decodes blocks of one stream, in no more memory than a block takes."""

    def __init__(self, module: Any) -> None:
        self._packed = b""
        machine = module.ZstdDecompressor(max_window_size=_WINDOW_BYTES_MAX)
        self._reader = machine.stream_reader(self, read_size=BLOCK_BYTES_MAX)

    def block(self, packed: bytes, size_bytes: int) -> bytes:
        """Return the content of the next block; less than `size_bytes` only at the stream's end.

        Raises `TransferFailed` if it has less.
        """
        self._packed = packed
        content: bytes = self._reader.read(size_bytes)
        return content

    def read(self, size_bytes: int) -> bytes:
        """Return compressed data; the decompressor calls this when it needs more."""
        if not self._packed:
            raise _damaged()
        part, self._packed = self._packed[:size_bytes], self._packed[size_bytes:]
        return part


def _inflated(packed: bytes, size_bytes: int) -> bytes:
    machine = zlib.decompressobj()
    content = machine.decompress(packed, size_bytes)
    # The checksum after a stream's content may need one more call.
    if machine.unconsumed_tail:
        content += machine.decompress(machine.unconsumed_tail, 1)
    return content if machine.eof else b""


def _damaged() -> TransferFailed:
    return TransferFailed("the compressed stream is damaged")
