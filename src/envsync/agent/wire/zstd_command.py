"""The `zstd` command as a filter, for interpreters without the zstandard module."""

from __future__ import annotations

import contextlib
import os
import select
import struct
from typing import List

from envsync.errors import TransferFailed

_STALL_SECONDS = 60.0
_PIPE_BYTES = 256 << 10
_MAGIC = 0xFD2FB528
_BLOCK_BYTES = 128 << 10


def raw_frame(content: bytes) -> bytes:
    """Return a zstd frame with `content` uncompressed (RFC 8878, 3.1.1 and 3.1.1.2)."""
    # A single segment, with the content size in four bytes.
    parts = [struct.pack("<IBI", _MAGIC, 0xA0, len(content))]
    for start in range(0, len(content), _BLOCK_BYTES):
        block = content[start : start + _BLOCK_BYTES]
        is_last = start + _BLOCK_BYTES >= len(content)
        parts += (struct.pack("<I", len(block) << 3 | is_last)[:3], block)
    return b"".join(parts)


def is_there() -> bool:
    """Return whether there is a `zstd` command."""
    import shutil  # not at the agent's start, because it imports all archive formats

    return shutil.which("zstd") is not None


class ZstdCommand:
    """Decodes frames; the content lags behind the frames that were fed.

    It returns no more bytes than announced. Methods raise `TransferFailed` if decoding fails.
    """

    def __init__(self) -> None:
        import subprocess  # rarely needed, as most servers have the module

        self._process = subprocess.Popen(
            ["zstd", "-d", "-c", "-q"],  # noqa: S607 - found by the server's PATH
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in = self._process.stdin.fileno()
        self._out = self._process.stdout.fileno()
        os.set_blocking(self._in, False)
        os.set_blocking(self._out, False)
        self._missing_bytes = 0

    def feed(self, frame: bytes, size_bytes: int) -> List[bytes]:
        """Feed a frame with `size_bytes` of content; return the content available so far."""
        self._missing_bytes += size_bytes
        view = memoryview(frame)
        pieces: List[bytes] = []
        while view:
            readable, writable, _ = select.select([self._out], [self._in], [], _STALL_SECONDS)
            if readable:
                pieces.append(self._counted(os.read(self._out, _PIPE_BYTES)))
            elif writable:
                try:
                    view = view[os.write(self._in, view[:_PIPE_BYTES]) :]
                except BrokenPipeError:
                    raise _failed() from None
            else:
                raise _failed()
        return pieces

    def finish(self) -> List[bytes]:
        """End the input; return all remaining content."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        pieces: List[bytes] = []
        while True:
            if not select.select([self._out], [], [], _STALL_SECONDS)[0]:
                raise _failed()
            data = os.read(self._out, _PIPE_BYTES)
            if not data:
                break
            pieces.append(self._counted(data))
        if self._missing_bytes:
            raise _failed()
        return pieces

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def _counted(self, data: bytes) -> bytes:
        if not 0 < len(data) <= self._missing_bytes:
            raise _failed()
        self._missing_bytes -= len(data)
        return data


def _failed() -> TransferFailed:
    return TransferFailed("the zstd command there cannot decompress the stream")
