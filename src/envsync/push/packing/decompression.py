"""Decompresses an archive, in whichever format it is, with limited memory."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, BinaryIO, cast

from envsync.errors import SourceRefused

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer as Buffer

_BLOCK_BYTES = 1 << 20
_XZ_MEMORY_MAX_BYTES = 256 << 20
"""`xz -9` needs a quarter of this; an archive may ask for gigabytes."""


class _Xz(io.RawIOBase):
    """The content of an xz file, read with limited memory. (zstd has a limit of its own.)"""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self._file = file
        self._begin()

    def _begin(self) -> None:
        self._stream = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY_MAX_BYTES)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer) -> int:
        view = memoryview(buffer)
        while True:
            block = b""
            if self._stream.eof:
                block = self._behind_zeros(self._stream.unused_data)
                if not block:
                    return 0
                self._begin()
            elif self._stream.needs_input:
                block = self._file.read(_BLOCK_BYTES)
                if not block:
                    raise EOFError("it ends too early")
            data = self._stream.decompress(block, len(view))
            if data:
                view[: len(data)] = data
                return len(data)

    def _behind_zeros(self, block: bytes) -> bytes:
        """Return what follows a stream and any zeros: perhaps another stream; empty at the end."""
        while not block.strip(b"\0"):
            block = self._file.read(_BLOCK_BYTES)
            if not block:
                return b""
        return block.lstrip(b"\0")


def _xz(file: BinaryIO, _: str) -> io.BufferedReader:
    return io.BufferedReader(_Xz(file))


_ZSTD = b"\x28\xb5\x2f\xfd"
_FRAME_HEADER_BYTES = 18
"""The most that zstd's frame header takes; it says whether a checksum follows the content."""
_OPENERS: tuple[tuple[bytes, Callable[..., object]], ...] = (
    (b"\x1f\x8b", gzip.open),
    (b"BZh", bz2.open),
    (b"\xfd7zXZ", _xz),
)
_OTHERS = ((b"PK\x03\x04", "a zip"), (b"hsqs", "a squashfs"))
"""Other formats that conda-pack makes, for which envsync has no use."""


def decompressed(file: BinaryIO) -> tuple[IO[bytes], bool]:
    """Decompress by content, whatever the name; also return whether the content has a checksum."""
    magic = file.read(_FRAME_HEADER_BYTES)
    file.seek(0)
    if magic.startswith(_ZSTD):
        import zstandard

        has_checksum = bool(zstandard.get_frame_parameters(magic).has_checksum)
        reader = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
        return cast("IO[bytes]", reader), has_checksum
    for start, opener in _OPENERS:
        if magic.startswith(start):
            # The last of the 8 bytes with which xz begins says which check it has; 0 is none.
            has_checksum = opener is not _xz or bool(magic[7:8].strip(b"\0"))
            return cast("IO[bytes]", opener(file, "rb")), has_checksum
    for start, what in _OTHERS:
        if magic.startswith(start):
            raise SourceRefused(
                f"{file.name} is {what}, but only a tar can be unpacked",
                hint="make one with `envsync pack`, or with `conda pack --format tar.gz`",
            )
    return file, False
