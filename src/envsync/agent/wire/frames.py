"""Frames: the units that a session carries in either direction.

A frame is a byte for its kind, four bytes for its length, and that many bytes. Control frames are
JSON. A control frame that announces a payload is followed by payload frames of that many bytes in
total. Data frames belong to the stream that the last request opened.
"""

from __future__ import annotations

import os
import struct
from typing import Callable, NamedTuple, Union

from envsync.errors import AgentFailed

CONTROL, PAYLOAD, DATA, DATA_END, HEARTBEAT = b"C", b"P", b"D", b"E", b"H"
_KINDS = frozenset(b"CPDEH")
_HEAD = struct.Struct("<BI")
FRAME_BYTES_MAX = 1 << 20
PAYLOAD_BYTES_MAX = 1 << 30
DOCUMENT_BYTES_MAX = 32 << 20
"""Limited because parsed JSON takes about twenty times its size; two million file sizes fit."""


class Frame(NamedTuple):
    kind: bytes
    data: bytes


class EndOfInput(Exception):
    """The session ended, between two frames or within one."""


def read_frame(read: Callable[[int], bytes]) -> Frame:
    """Return the next frame; raises `EndOfInput`, or `AgentFailed` if it is malformed.

    `read(size)` returns at least one byte, or b"" at the end.
    """
    kind, size = _HEAD.unpack(exactly(read, _HEAD.size))
    if kind not in _KINDS or size > FRAME_BYTES_MAX:
        raise AgentFailed("the other side does not speak the protocol")
    return Frame(bytes((kind,)), exactly(read, size))


def exactly(read: Callable[[int], bytes], size: int) -> bytes:
    """Return that many bytes; `EndOfInput` if `read` has fewer."""
    parts = []
    left = size
    while left:
        part = read(left)
        if not part:
            raise EndOfInput
        parts.append(part)
        left -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def write_all(fd: int, data: Union[bytes, memoryview]) -> None:
    """Write every byte, repeating partial writes."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def write_frame(write: Callable[[bytes], None], kind: bytes, data: bytes = b"") -> None:
    """Write a frame, which may take two calls of `write`."""
    if len(data) < 4096:
        write(_HEAD.pack(kind[0], len(data)) + data)
    else:
        write(_HEAD.pack(kind[0], len(data)))
        write(data)
