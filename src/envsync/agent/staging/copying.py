"""Copies files from other trees of this server into the staging tree, on all processors.

A file costs five system calls and its hash. So if there are many, the helper processes that
share scans also copy batches of them.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
from typing import (
    Any,
    Dict,
    Iterable,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
)

from envsync.agent.server.helper_processes import COPY, HelperProcesses
from envsync.agent.server.progress import Progress
from envsync.agent.server.reading import closing_fd
from envsync.agent.staging.writing import TreeWriter
from envsync.agent.trees.directory_read import opened_directory
from envsync.tree.entry import Entry
from envsync.tree.steps import COPIES_MAX, Copies, Copy, Make

FEW_FILES, FEW_BYTES = 1000, 64 << 20
"""This little is done before another process would be of help."""
_BATCH_BYTES = 8 << 20


class CopySite(NamedTuple):
    """Where files are copied to: the staging tree's path, its writer, the writers' lock file."""

    path: bytes
    writer: TreeWriter
    lock: bytes


class Copying:
    """Copies a plan's files from holdings; `failed` are those that have to come from elsewhere."""

    def __init__(
        self,
        site: CopySite,
        holdings: Sequence[bytes],
        helpers: HelperProcesses,
        progress: Optional[Progress] = None,
    ) -> None:
        """`holdings` are the paths of the trees, which copies refer to by number."""
        self._site = site
        self._holdings = holdings
        self._helpers = helpers
        self._progress = progress or (lambda _: None)
        self.failed: List[Make] = []

    def run(self, copies: Sequence[Copies]) -> None:
        """Copy the files; OSError if the staging tree cannot be written to."""
        files, size_bytes = sum(c.files for c in copies), sum(c.size_bytes for c in copies)
        is_little = files <= FEW_FILES and size_bytes <= FEW_BYTES
        with contextlib.ExitStack() as stack:
            fds = [stack.enter_context(_opened(path)) for path in self._holdings]
            if is_little or not len(self._helpers):
                self._copy(_each(copies), fds)
            else:
                self._share(_batches(copies), fds)

    def _copy(self, copies: Iterable[Copy], fds: Sequence[int]) -> None:
        for path, entry, number, source in copies:
            if not self._site.writer.copy_file(fds[number], source, path, entry):
                self.failed.append(Make(path, entry))
            else:
                self._progress(entry.size_bytes)

    def _share(self, pending: List[List[Copies]], fds: Sequence[int]) -> None:
        """Share the batches: helpers take the largest, from the end, this process the others."""
        idle = list(range(len(self._helpers)))
        busy: Dict[int, List[Copy]] = {}
        while pending or busy:
            while pending and idle:
                number = idle.pop()
                busy[number] = list(_each(pending.pop()))
                self._helpers.begin(number, (COPY, self._order(busy[number])))
            if pending:
                self._copy(_each(pending.pop(0)), fds)
            if not busy:
                continue
            for number in self._helpers.answered(busy, may_wait=not pending):
                batch = busy.pop(number)
                if self._collect(batch, self._helpers.finish(number)):
                    idle.append(number)
                else:
                    # The helper died or must not write, so this process copies its batch.
                    self._copy(batch, fds)

    def _order(self, batch: Sequence[Copy]) -> Tuple[Any, ...]:
        files = [(copy.source, copy.path, tuple(copy.entry)) for copy in batch]
        return self._site.path, self._site.lock, self._holdings[batch[0].holding], files

    def _collect(self, batch: Sequence[Copy], answer: Optional[Tuple[Any, ...]]) -> bool:
        """Add what a helper did; return False if it did nothing. Raises OSError if it failed."""
        if answer is None:
            return False
        written, failed, error_number = answer
        if error_number:
            raise OSError(error_number, os.strerror(error_number))
        self._site.writer.written.packed.update(written)
        self.failed += [Make(batch[number].path, batch[number].entry) for number in failed]
        done_bytes = sum(copy.entry.size_bytes for copy in batch)
        self._progress(done_bytes - sum(batch[number].entry.size_bytes for number in failed))
        return True


def copy_share(order: Tuple[Any, ...]) -> Optional[Tuple[Any, ...]]:
    """Do a helper's part of `Copying`; return what was written, the failed numbers, and an errno.

    None means that the caller has to copy the files itself. While writing, the helper holds the
    writers' lock, so that nobody builds in the same tree after the agent that asked for it died.
    """
    staged, lock, holding, files = order
    with contextlib.ExitStack() as stack:
        try:
            lock_fd = stack.enter_context(closing_fd(os.open(lock, os.O_RDWR | os.O_CLOEXEC)))
            fcntl.flock(lock_fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            top_fd = stack.enter_context(opened_directory(staged))
            holding_fd = stack.enter_context(opened_directory(holding))
        except OSError:
            return None
        writer = TreeWriter(top_fd)
        stack.callback(writer.close)
        failed: List[int] = []
        try:
            for number, (source, path, entry) in enumerate(files):
                if not writer.copy_file(holding_fd, source, path, Entry(*entry)):
                    failed.append(number)
        except OSError as error:
            return {}, [], error.errno
        return writer.written.packed, failed, 0


@contextlib.contextmanager
def _opened(path: bytes) -> Iterator[int]:
    """Open a tree until the block ends; -1 if it is gone, so that the source sends its files."""
    fd = -1
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            fd = stack.enter_context(opened_directory(path))
        yield fd


def _each(copies: Iterable[Copies]) -> Iterator[Copy]:
    return itertools.chain.from_iterable(some.each() for some in copies)


def _batches(copies: Sequence[Copies]) -> List[List[Copies]]:
    """Divide copies into batches, each from one holding, in the plan's order; the largest last."""
    batches: List[List[Copies]] = []
    files = size_bytes = 0
    for some in sorted(copies, key=lambda some: some.holding):
        is_full = size_bytes > _BATCH_BYTES or files >= COPIES_MAX
        if not batches or is_full or batches[-1][0].holding != some.holding:
            batches.append([])
            files = size_bytes = 0
        batches[-1].append(some)
        files += some.files
        size_bytes += some.size_bytes
    return sorted(batches, key=lambda batch: sum(some.size_bytes for some in batch))
