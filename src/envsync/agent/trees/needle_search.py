"""Searches contents for a few strings while they are read to be hashed or sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Iterable, List, Set

from envsync.agent.server.file_workers import WorkerJob
from envsync.agent.trees.file_hash import MISSING, READ_BYTES

if TYPE_CHECKING:
    # Needed only for a push to another prefix.
    from envsync.conda.needles import Needles

_DIGEST_BYTES = len(MISSING)
_HAS_NONE = b"\1"

# Compiled code is not searched: importlib sets its paths when it loads it.
_WORKER_CODE = """
import hashlib
plain, wide = [[bytes.fromhex(text) for text in group.split()] for group in sys.argv[3:]]
kept = max(map(len, plain + wide)) - 1
buffer = bytearray(kept + block)
view = memoryview(buffer)
def holds(start, end):
    find = buffer.find
    if any(find(needle, start, end) >= 0 for needle in plain):
        return True
    if find(b"\\0", start, end) < 0 or find(b"/", start, end) < 0:
        return False
    return any(find(needle, start, end) >= 0 for needle in wide)
def answer(request):
    inode, _, path = request.partition(b"/")
    try:
        fd = os.open(path, flags, dir_fd=top)
    except OSError:
        return bytes(33)
    try:
        if os.fstat(fd).st_ino != int(inode):
            return bytes(33)
        state, start, is_open = hashlib.sha256(), kept, b"__pycache__/" not in path
        while True:
            count = os.readv(fd, [view[kept:]])
            if not count:
                return state.digest() + bytes([is_open])
            state.update(view[kept : kept + count])
            is_open = is_open and not holds(start, kept + count)
            # The end of this block goes in front of the next one.
            buffer[:kept] = buffer[count : count + kept]
            start = max(0, start - count)
    except OSError:
        return bytes(33)
    finally:
        os.close(fd)
"""


class NeedleSearch:
    """Strings to look for in what is read anyway, and the digests of contents without any."""

    def __init__(self, needles: Needles) -> None:
        self.needles = needles
        self.overlap_bytes = needles.longest_bytes()
        self.without: Set[bytes] = set()

    def is_in(self, content: bytes) -> bool:
        return bool(self.needles.found_in(content))

    def hashing_job(self) -> WorkerJob:
        """Return what workers do that hash files, by requests as in `file_hash.WORKER_CODE`."""
        arguments = [" ".join(needle.hex() for needle in group) for group in self.needles]
        return WorkerJob(_WORKER_CODE, _DIGEST_BYTES + len(_HAS_NONE), READ_BYTES, arguments)

    def digests(self, answers: Iterable[bytes]) -> List[bytes]:
        """Return the digests in the answers of workers, and note those without a needle."""
        found = [(answer[:_DIGEST_BYTES], answer[_DIGEST_BYTES:]) for answer in answers]
        self.without.update(digest for digest, mark in found if mark == _HAS_NONE)
        return [digest for digest, _ in found]
