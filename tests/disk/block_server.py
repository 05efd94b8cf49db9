"""The process behind the disk, which serves one file of a FUSE filesystem.

It speaks the kernel's own protocol. Run as a script, it takes the path of an empty file to mount
over and the disk's size in bytes. It reads orders as lines of JSON from stdin, answers each on
stdout, and ends at the end of stdin.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import random
import select
import stat
import struct
import sys
from typing import Any

PAGE_BYTES = 4096
_REQUEST_BYTES = (1 << 20) + PAGE_BYTES
_NO_PAGE = bytes(PAGE_BYTES)
_IN_HEAD = struct.Struct("<IIQQIIII")
_OUT_HEAD = struct.Struct("<IiQ")
_ATTRIBUTES = struct.Struct("<QIIQQQQQQIIIIIIIIII")
_SPAN = struct.Struct("<QQI")  # handle, offset and size of a read or a write
_WRITE_HEAD_BYTES = 40
_FOREVER_SECONDS = 1 << 30
_FORGET, _GETATTR, _SETATTR, _OPEN, _READ, _WRITE = 2, 3, 4, 14, 15, 16
_RELEASE, _FSYNC, _FLUSH, _INIT, _INTERRUPT, _DESTROY = 18, 20, 25, 26, 36, 38
_BATCH_FORGET = 42
_UNANSWERED = frozenset({_FORGET, _INTERRUPT, _BATCH_FORGET})
_DIRECT_IO = 1
_BIG_WRITES, _MAX_PAGES = 1 << 5, 1 << 22

_MNT_DETACH = 2
_LIBC = ctypes.CDLL(None, use_errno=True)

Pages = dict[int, bytes]


class Store:
    """The disk's contents, page by page, and the writes and flushes since `record`."""

    def __init__(self) -> None:
        self.pages: Pages = {}
        self._before: Pages = {}
        self._log: list[Pages | None] = []  # None: a flush
        self._recording = False
        self.bad_reads: set[int] = set()
        self.bad_content = b""

    def read(self, offset: int, size: int) -> bytes:
        numbers = range(offset // PAGE_BYTES, (offset + size + PAGE_BYTES - 1) // PAGE_BYTES)
        if not self.bad_reads.isdisjoint(numbers):
            raise OSError(errno.EIO, "bad block")
        data = b"".join([self.pages.get(number, _NO_PAGE) for number in numbers])
        start = offset % PAGE_BYTES
        return data[start : start + size]

    def write(self, offset: int, data: bytes) -> None:
        first, start = divmod(offset, PAGE_BYTES)
        last = (offset + len(data) - 1) // PAGE_BYTES
        if self.bad_content and self.bad_content in data:
            raise OSError(errno.EIO, "bad block")
        head = self.pages.get(first, _NO_PAGE)[:start]
        tail = self.pages.get(last, _NO_PAGE)[(start + len(data) - 1) % PAGE_BYTES + 1 :]
        whole = head + data + tail
        written = {
            first + number: whole[number * PAGE_BYTES : (number + 1) * PAGE_BYTES]
            for number in range(last - first + 1)
        }
        self.pages.update(written)
        if self._recording:
            self._log.append(written)

    def flush(self) -> None:
        if self._recording:
            self._log.append(None)

    def record(self) -> None:
        """Start to record writes and flushes."""
        self._before, self._log, self._recording = dict(self.pages), [], True

    def stop(self) -> str:
        """Stop recording; return what happened, in order: "w" for a write, "f" for a flush."""
        self._recording = False
        return "".join("f" if entry is None else "w" for entry in self._log)

    def position(self) -> int:
        return len(self._log)

    def become(self, position: int, seed: int | None, cached: str) -> None:
        """Become what a power cut after the first `position` writes and flushes leaves.

        Everything before the last flush is there. Later writes, which were in the disk's cache,
        are "kept" or "lost" according to `cached`; with "some", random pages are kept.
        """
        happened = self._log[:position]
        flushed = max((i for i, entry in enumerate(happened) if entry is None), default=-1)
        chance = random.Random(seed)
        self.pages = dict(self._before)
        for number, entry in enumerate(happened):
            for page, content in (entry or {}).items():
                if (
                    number < flushed
                    or cached == "kept"
                    or (cached == "some" and chance.random() < 0.5)
                ):
                    self.pages[page] = content

    def find(self, content: bytes) -> list[int]:
        """Return the numbers of the pages that contain these bytes."""
        return [number for number, page in self.pages.items() if content in page]

    def flip(self, page: int, content: bytes) -> None:
        """Flip a bit in the first byte of `content` in a page."""
        data = bytearray(self.pages[page])
        data[data.index(content)] ^= 1
        self.pages[page] = bytes(data)


class FuseFile:
    """A filesystem whose root is one regular file, served from a store."""

    def __init__(self, path: str, size_bytes: int, store: Store) -> None:
        self._store = store
        self._size_bytes = size_bytes
        self.fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        options = f"fd={self.fd},rootmode={stat.S_IFREG:o},user_id=0,group_id=0,allow_other"
        if _LIBC.mount(b"disk", path.encode(), b"fuse", ctypes.c_ulong(0), options.encode()) != 0:
            raise OSError(ctypes.get_errno(), "mount")
        self._path = path

    def close(self) -> None:
        """Unmount the file; whoever still has it open keeps a dead disk.

        Call this before the process ends: its end can end the mount namespace too, and to
        unmount the disk then, the kernel would wait for an answer from this process.
        """
        _LIBC.umount2(self._path.encode(), _MNT_DETACH)
        os.close(self.fd)

    def serve(self) -> bool:
        """Answer one request; return False if the filesystem is gone."""
        try:
            request = os.read(self.fd, _REQUEST_BYTES)
        except OSError as error:
            if error.errno == errno.ENODEV:
                return False
            if error.errno in (errno.ENOENT, errno.EINTR, errno.EAGAIN):
                return True
            raise
        length, operation, unique, *_ = _IN_HEAD.unpack_from(request)
        if operation in _UNANSWERED:
            return True
        try:
            code, answer = 0, self._answer(operation, request[_IN_HEAD.size : length])
        except OSError as error:
            code, answer = -(error.errno or errno.EIO), b""
        os.write(self.fd, _OUT_HEAD.pack(_OUT_HEAD.size + len(answer), code, unique) + answer)
        return True

    def _answer(self, operation: int, body: bytes) -> bytes:
        if operation == _INIT:
            return self._init(body)
        if operation in (_GETATTR, _SETATTR):
            return self._attributes()
        if operation == _OPEN:
            return struct.pack("<QII", 1, _DIRECT_IO, 0)
        if operation == _READ:
            _, offset, size = _SPAN.unpack_from(body)
            return self._store.read(offset, min(size, max(0, self._size_bytes - offset)))
        if operation == _WRITE:
            _, offset, size = _SPAN.unpack_from(body)
            self._store.write(offset, body[_WRITE_HEAD_BYTES : _WRITE_HEAD_BYTES + size])
            return struct.pack("<II", size, 0)
        if operation == _FSYNC:
            self._store.flush()
        elif operation not in (_FLUSH, _RELEASE, _DESTROY):
            raise OSError(errno.ENOSYS, "not served")
        return b""

    @staticmethod
    def _init(body: bytes) -> bytes:
        _, minor = struct.unpack_from("<II", body)
        write_bytes = _REQUEST_BYTES - PAGE_BYTES
        flags = _BIG_WRITES | _MAX_PAGES
        return struct.pack(
            "<IIIIHHIIHHI28x",
            *(7, min(minor, 31), 1 << 17, flags, 16, 12, write_bytes, 1),
            *(write_bytes // PAGE_BYTES, 0, 0),
        )

    def _attributes(self) -> bytes:
        times = (0,) * 6
        size, mode = self._size_bytes, stat.S_IFREG | 0o600
        values = (1, size, size // 512, *times, mode, 1, 0, 0, 0, PAGE_BYTES, 0)
        return _ATTRIBUTES.pack(_FOREVER_SECONDS, 0, 0, *values)


def carry_out(store: Store, order: dict[str, Any]) -> Any:
    """Carry out one order of the test process, and return the answer."""
    what = order["do"]
    if what == "record":
        return store.record()
    if what == "stop":
        return store.stop()
    if what == "position":
        return store.position()
    if what == "become":
        return store.become(order["position"], order["seed"], order["cached"])
    if what == "find":
        return store.find(bytes.fromhex(order["content"]))
    if what == "flip":
        return store.flip(order["page"], bytes.fromhex(order["content"]))
    if what == "fail":
        store.bad_reads = set(order["reads"])
        store.bad_content = bytes.fromhex(order["content"])
        return None
    raise ValueError(what)


def main() -> None:
    store = Store()
    file = FuseFile(sys.argv[1], int(sys.argv[2]), store)
    os.write(1, b'"mounted"\n')
    try:
        serve(file, store)
    finally:
        file.close()


def serve(file: FuseFile, store: Store) -> None:
    """Answer the kernel and the test process until either is done."""
    poll = select.poll()
    for fd in (0, file.fd):
        poll.register(fd, select.POLLIN)
    orders = os.fdopen(0, "rb", buffering=0)
    while True:
        for fd, _ in poll.poll():
            if fd == file.fd:
                if not file.serve():
                    return
                continue
            line = orders.readline()
            if not line:
                return
            os.write(1, json.dumps(carry_out(store, json.loads(line))).encode() + b"\n")


if __name__ == "__main__":
    main()
