"""Helper processes that share the agent's scans and copies, which are mostly system calls.

They are forked while their parent has no threads yet, so that they inherit no held locks, and they
end with it, because their pipes then close. The pipes carry marshal data, as both sides
are the same program.
"""

from __future__ import annotations

import contextlib
import marshal
import os
import select
import signal
import struct
import threading
from typing import (
    Any,
    Callable,
    Iterable,
    List,
    NamedTuple,
    NoReturn,
    Optional,
    Sequence,
    Set,
)

from envsync.agent.wire.frames import EndOfInput, exactly, write_all

PROCESSES_MAX = 4
SCAN, COPY = "scan", "copy"
"""The kinds of requests; each request begins with one."""
_SIZE = struct.Struct("<Q")

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Work = Callable[[Any], Any]


class _Helper(NamedTuple):
    pid: int
    requests: int
    answers: int


class HelperProcesses:
    """Helper processes, each with one request at a time. Not thread-safe.

    `caller_shares` says whether the caller does a share of the work too.
    """

    def __init__(self, helpers: Sequence[_Helper] = (), caller_shares: bool = True) -> None:
        self._helpers = list(helpers)
        self.caller_shares = caller_shares
        self._owing: Set[int] = set()

    @classmethod
    def fork(cls, work: Work, caller_shares: bool = True) -> HelperProcesses:
        """Fork a helper for each further processor, up to three; none if threads already run.

        Without `caller_shares`, because the caller has other work for its own interpreter, there
        is one helper even on a single processor.
        """
        if threading.active_count() > 1:
            return cls()
        count = min(PROCESSES_MAX, len(os.sched_getaffinity(0))) - 1
        if not caller_shares:
            count = max(1, count)
        helpers: List[_Helper] = []
        for _ in range(count):
            helper = _fork(work)
            if helper is None:
                break
            helpers.append(helper)
        return cls(helpers, caller_shares)

    def __len__(self) -> int:
        return len(self._helpers)

    def begin(self, number: int, request: Any) -> None:
        """Give a helper work; wait first for any answer that nobody collected, and drop it.

        An unread answer may fill its pipe, and then the helper would never read the request.
        """
        self.finish(number)
        with contextlib.suppress(OSError):
            _send(self._helpers[number].requests, request)
            self._owing.add(number)

    def answered(self, numbers: Iterable[int], may_wait: bool) -> List[int]:
        """Return which of these helpers have answered or died; if `may_wait`, wait for one."""
        by_fd = {self._helpers[number].answers: number for number in numbers}
        poll = select.poll()
        for fd in by_fd:
            poll.register(fd, select.POLLIN)
        return [by_fd[fd] for fd, _ in poll.poll(None if may_wait else 0)]

    def finish(self, number: int) -> Optional[Any]:
        """Return a helper's answer, or None if it died or was given no work."""
        if number not in self._owing:
            return None
        self._owing.remove(number)
        try:
            return _receive(self._helpers[number].answers)
        except (OSError, EndOfInput, EOFError, ValueError, TypeError):
            return None

    def close(self) -> None:
        """End the helpers. May be called more than once."""
        helpers, self._helpers = self._helpers, []
        for helper in helpers:
            os.close(helper.requests)
            os.close(helper.answers)
        for helper in helpers:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(helper.pid, 0)


NO_HELPERS = HelperProcesses()


def _fork(work: Work) -> Optional[_Helper]:
    their_requests, requests = os.pipe()
    answers, their_answers = os.pipe()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        # Blocked, because a signal that arrives during fork(), such as Ctrl-C, would be lost. One
        # that arrives right before is handled in this call, which then raises.
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        pid = os.fork()
        if pid == 0:
            _serve(work, their_requests, their_answers, before)
    except OSError:
        for fd in (their_requests, requests, answers, their_answers):
            os.close(fd)
        return None
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    os.close(their_requests)
    os.close(their_answers)
    return _Helper(pid, requests, answers)


def _serve(
    work: Work, requests: int, answers: int, mask: Iterable[signal.Signals | int]
) -> NoReturn:
    """Run a helper until its pipes close.

    It keeps no file of the agent's open, least of all the session, and none of its signal
    handlers: Ctrl-C is for the parent, whose end closes the pipes.
    """
    try:
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        _keep_only(requests, answers)
        while True:
            _send(answers, work(_receive(requests)))
    finally:
        os._exit(0)


def _keep_only(*kept: int) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        if fd > 2 and fd not in kept:
            try:
                os.close(fd)
            except OSError:
                continue


def _send(fd: int, value: Any) -> None:
    data = marshal.dumps(value)
    write_all(fd, _SIZE.pack(len(data)) + data)


def _receive(fd: int) -> Any:
    def read(size: int) -> bytes:
        return os.read(fd, min(size, 1 << 20))

    (size,) = _SIZE.unpack(exactly(read, _SIZE.size))
    return marshal.loads(exactly(read, size))  # noqa: S302  (from our own fork)
