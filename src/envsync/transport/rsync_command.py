"""Builds the command lines of the rsyncs on both ends."""

from __future__ import annotations

import inspect
import os
import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass

from envsync.agent.server.rsync_run import IO_TIMEOUT_SECONDS
from envsync.agent.staging import scratch_files, writer_guard
from envsync.transport.job import Job

# Comparing files with the live tree's costs time for each file.
_DELTA_FROM_BYTES = 1 << 20
_PLAIN_PATH = re.compile(r"/[A-Za-z0-9_./+@:,=-]*")


@dataclass(frozen=True, slots=True)
class RsyncSender:
    """The rsync `program` that is started, the directory it sends, and its ssh to the target."""

    program: str
    source: bytes
    ssh_argv: Sequence[str]
    ssh_host: str


def sender_argv(job: Job, sender: RsyncSender, receiver: str, *, compress: bool) -> list[bytes]:
    """Return the command line that sends the job's files; it reads their paths from its stdin.

    `receiver` is the rsync on the target.
    """
    state = _state(job)
    return [
        os.fsencode(sender.program),
        # A file with the size and mtime of the old one can still have other contents.
        b"--ignore-times",
        b"--from0",
        b"--files-from=-",
        b"--no-implied-dirs",
        # A file that has become a directory since would be created as one there.
        b"--no-dirs",
        # Keep paths from the shell there (--protect-args; every rsync from 3.0 on knows -s).
        b"-s",
        # The agent sets modes and mtimes from the manifest; nobody else can read until then.
        b"--chmod=F600",
        b"--partial-dir=" + posixpath.join(state, scratch_files.PARTIAL),
        b"--temp-dir=" + posixpath.join(state, scratch_files.TEMPORARY),
        *_delta_options(job),
        b"--timeout=%d" % IO_TIMEOUT_SECONDS,
        b"--no-human-readable",
        b"--info=progress2,stats2,flist0,name0",
        *_wire_options(job, compress=compress),
        b"--rsh=" + os.fsencode(joined(sender.ssh_argv)),
        b"--rsync-path=" + _receiver_command(job, receiver).encode("ascii"),
        sender.source + b"/",
        os.fsencode(_host_argument(sender)) + b":.",
    ]


def _state(job: Job) -> bytes:
    """Return the state directory (`agent.places.layout`), which has the tree in a directory."""
    return os.fsencode(posixpath.dirname(posixpath.dirname(job.tree)))


def _host_argument(sender: RsyncSender) -> str:
    """Return the host, in brackets if it is an IPv6 address."""
    host = sender.ssh_host
    return f"[{host}]" if ":" in host else host


def _delta_options(job: Job) -> list[bytes]:
    if not any(size_bytes >= _DELTA_FROM_BYTES for _, size_bytes in job.items):
        return [b"--whole-file"]
    above, name = posixpath.split(_state(job))
    # The basis is the live tree (`agent.places.layout`): read and copied from, never linked.
    return [
        b"--no-whole-file",
        b"--copy-dest=" + posixpath.join(posixpath.dirname(above), name),
    ]


def _wire_options(job: Job, *, compress: bool) -> list[bytes]:
    options = [b"--no-compress"]
    if compress:
        options = [b"--compress", b"--compress-choice=zstd", b"--compress-level=1"]
    if job.limit_bits_per_second is not None:
        # In units of 1024 bytes per second; 0 would mean no limit.
        options.append(b"--bwlimit=%d" % max(1, job.limit_bits_per_second // 8 // 1024))
    return options


def _receiver_command(job: Job, rsync: str) -> str:
    """Return the command that runs rsync there: ASCII, with one meaning to sh, csh and fish."""
    program = inspect.getsource(writer_guard).encode().hex()
    start = f"exec {job.target.python} -S -I -B -c 'exec(bytes.fromhex(\"{program}\"))'"
    return f"{start} {_state(job).hex()} {job.token} {os.fsencode(rsync).hex()}"


def joined(argv: Sequence[str]) -> str:
    """Return one string that rsync splits into these arguments again.

    rsync splits at blanks and knows quotes; inside them a doubled quote stands for one quote,
    and a backslash for itself.
    """
    return " ".join("'" + argument.replace("'", "''") + "'" for argument in argv)


def is_plain(path: str) -> bool:
    """Return whether every login shell takes the path literally without quotes."""
    return _PLAIN_PATH.fullmatch(path) is not None


def speaks_zstd(version_text: str) -> bool:
    """Return whether the output of `rsync --version` lists zstd."""
    _, _, after = version_text.partition("Compress list:")
    return "zstd" in after.strip().partition("\n")[0].split()


def version(version_text: str) -> tuple[int, int] | None:
    """Return rsync's major and minor version; None if the text does not name one."""
    match = re.match(r"rsync +version +v?(\d{1,9})\.(\d{1,9})", version_text)
    return None if match is None else (int(match[1]), int(match[2]))
