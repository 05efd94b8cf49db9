"""The transport scp, for where little else works: one bundle, sent by SFTP and unpacked there.

The bundle is the stream of `stream`, written to a file on this machine first. The part of it
that arrived before an interruption is not sent again.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import IO

from envsync.agent.wire.transfer_operations import (
    FREE_BYTES,
    LOCATE_BUNDLE,
    UNPACK_BUNDLE,
    BundleFacts,
)
from envsync.errors import EnvsyncError, NoSpace, TransferFailed
from envsync.files.directories import cache_directory
from envsync.texts.sizes import size
from envsync.transport.effort import Effort, Step
from envsync.transport.job import Increase, Job, Sent
from envsync.transport.names import SCP
from envsync.transport.stream import encoded, failed_paths, steps

_READ_BYTES = 1 << 20
_SPARE_BYTES = 16 << 20
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class ScpTransport:
    """Sends a bundle by SFTP; needs SFTP on the server, and room for the bundle on both ends."""

    name = SCP

    def refusal(self, job: Job) -> str | None:
        if job.supply.relayed is not None:
            return "the source is another server"
        if job.target.link is None:
            return "the target is this machine"
        if job.limit_bits_per_second is not None:
            return "it cannot limit its rate"
        return None

    def send(self, job: Job) -> Sent:
        assert job.target.link is not None
        with contextlib.closing(_bundle(job)) as bundle:
            size_bytes = bundle.seek(0, os.SEEK_END)
            remote = job.target.ask(LOCATE_BUNDLE, None)
            offset = _arrived_bytes(bundle, remote)
            _require_room(job, size_bytes - offset, remote.free_bytes)
            count = _counting(job, size_bytes)
            count(offset)
            bundle.seek(offset)
            try:
                job.target.link.upload(bundle, os.fsencode(remote.path), count)
            except TransferFailed as error:
                raise _explained(job, error) from error
            received = job.target.ask(UNPACK_BUNDLE, job.selection())
        return Sent(size_bytes - offset, failed_paths(received))


def bundle_steps(job: Job) -> tuple[Step, ...]:
    """Return the step that bundles are compressed with.

    It is fixed, because the speed of writing to disk says nothing about the link.
    """
    ladder = steps(job)
    return ladder[1:2] or ladder


def _bundle(job: Job) -> IO[bytes]:
    """Return the bundle as an open file without a name, which nothing could leave behind.

    Equal items give equal bytes, so that an interrupted transfer can be resumed.
    """
    directory = _directory()
    effort = Effort(bundle_steps(job), job.size_bytes)
    try:
        file = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115
        try:
            for block in encoded(replace(job, on_sent=lambda _: None), effort):
                file.write(block)
            file.flush()
        except BaseException:
            # If flushing failed, closing flushes again and fails too.
            with contextlib.suppress(OSError):
                file.close()
            raise
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise NoSpace(
            f"there is no room for the bundle on this machine, in {directory}",
            hint="set TMPDIR to a directory that has room, or use --transport stream",
        ) from error
    return file


def _directory() -> str:
    """Return TMPDIR if set, else our cache if usable, because /tmp is often small and in memory."""
    cache = cache_directory(os.environ)
    if os.environ.get("TMPDIR") or cache is None:
        return tempfile.gettempdir()
    directory = Path(cache)
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return tempfile.gettempdir()
    return str(directory) if os.access(directory, os.W_OK) else tempfile.gettempdir()


def _arrived_bytes(bundle: IO[bytes], remote: BundleFacts) -> int:
    """Return how much of the bundle is there from an earlier push; 0 if that was another one."""
    left = max(0, remote.size_bytes)
    digest = hashlib.sha256()
    bundle.seek(0)
    while left and (block := bundle.read(min(left, _READ_BYTES))):
        digest.update(block)
        left -= len(block)
    is_same = left == 0 and digest.hexdigest() == remote.digest
    return max(0, remote.size_bytes) if is_same else 0


def _require_room(job: Job, missing_bytes: int, free_bytes: int) -> None:
    """Raise `NoSpace` unless the rest of the bundle fits in addition to the files themselves."""
    needed = missing_bytes + job.size_bytes + _SPARE_BYTES
    if needed > free_bytes:
        raise _no_space(f"{size(needed)} are needed and {size(free_bytes)} are free")


def _explained(job: Job, error: EnvsyncError) -> EnvsyncError:
    """Return `NoSpace` if the disk is full, else `error`. The agent knows; SFTP does not say."""
    is_full = job.target.ask(FREE_BYTES, None) < _READ_BYTES
    return _no_space(error.message) if is_full else error


def _no_space(reason: str) -> NoSpace:
    return NoSpace(
        f"there is no room for the bundle: {reason}; the live environment is untouched",
        hint="free some space there, or use --transport stream, which needs no bundle",
    )


def _counting(job: Job, size_bytes: int) -> Callable[[int], None]:
    """Return what counts bytes of the bundle, and reports the corresponding bytes of content."""
    content, content_bytes, done_bytes = Increase(job.on_sent), job.size_bytes, 0

    def count(more_bytes: int) -> None:
        nonlocal done_bytes
        done_bytes += more_bytes
        content.up_to(content_bytes * done_bytes // max(1, size_bytes))

    return count
