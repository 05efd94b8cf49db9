"""Finds out which limit of a user, a process or the memory is behind an error."""

from __future__ import annotations

import errno
import os
from typing import NamedTuple, Optional

FILE_SIZE = "the limit on the size of a file is reached (`ulimit -f`)"
_PROCESSES = "the limit on processes and threads is reached (`ulimit -u`)"
_THREADS = f"{_PROCESSES}, or that on memory (`ulimit -v`)"
_MEMORY = "the memory is used up, or its limit is reached (`ulimit -v`)"
_OPEN_FILES = "the limit on open files is reached (`ulimit -n`)"
_LIMITS = {
    errno.EFBIG: FILE_SIZE,
    errno.ENOMEM: _MEMORY,
    errno.EMFILE: _OPEN_FILES,
    errno.ENFILE: _OPEN_FILES,
}


class ReachedLimit(NamedTuple):
    """A limit of the system, in a sentence.

    Unless it `is_certain`, a bug that takes too much may be behind it: keep the traceback.
    """

    text: str
    is_certain: bool


def reached_limit(error: BaseException) -> Optional[ReachedLimit]:
    """Return which limit of the system is behind an error; None if none is."""
    if isinstance(error, MemoryError):
        return ReachedLimit(_MEMORY, is_certain=False)
    if isinstance(error, RuntimeError) and "start new thread" in str(error):
        return ReachedLimit(_THREADS, is_certain=True)
    if not isinstance(error, OSError):
        return None
    if error.errno == errno.EAGAIN and _starts_a_process(error):
        return ReachedLimit(_PROCESSES, is_certain=True)
    text = _LIMITS.get(error.errno or 0)
    return None if text is None else ReachedLimit(text, is_certain=error.errno == errno.EFBIG)


def told_limit(line: str) -> str:
    """Return which limit ended a Python whose last words these are, in a sentence; "" if none."""
    if "can't start new thread" in line:
        return _THREADS
    if "MemoryError" in line or os.strerror(errno.ENOMEM) in line:
        return _MEMORY
    return ""


def _starts_a_process(error: BaseException) -> bool:
    """Return whether it was raised where a process is started: EAGAIN means much elsewhere."""
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    return last is not None and last.tb_frame.f_globals.get("__name__") == "subprocess"
