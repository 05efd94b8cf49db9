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

_PLAIN_PATH = re.compile(r"/[A-Za-z0-9_./+@:,=-]*")


@dataclass(frozen=True, slots=True)
class RsyncSender:
    """The rsync `program` that is started, the directory it sends, and its ssh to the target."""

    program: str
    source: bytes
    ssh_argv: Sequence[str]
    ssh_host: str


@dataclass(frozen=True, slots=True)
class RsyncCommand:
    """One run of rsync, from where `sender` is to the staging tree on the target.

    `tree` is the staging tree's path; `python` and `rsync` are programs on the target. With
    `delta`, files are compared with the live tree's, which costs time for each file.
    """

    sender: RsyncSender
    tree: str
    token: str
    python: str
    rsync: str
    delta: bool = False
    compress: bool = False
    limit_bits_per_second: int | None = None

    def argv(self) -> list[bytes]:
        """Return the sender's command line; it reads the paths of the files from its stdin."""
        state = self._state()
        return [
            os.fsencode(self.sender.program),
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
            *self._delta_options(),
            b"--timeout=%d" % IO_TIMEOUT_SECONDS,
            b"--no-human-readable",
            b"--info=progress2,stats2,flist0,name0",
            *self._wire_options(),
            b"--rsh=" + os.fsencode(joined(self.sender.ssh_argv)),
            b"--rsync-path=" + self._receiver().encode("ascii"),
            self.sender.source + b"/",
            os.fsencode(self._host_argument()) + b":.",
        ]

    def _state(self) -> bytes:
        """Return the state directory (`agent.places.layout`), which has the tree in a directory."""
        return os.fsencode(posixpath.dirname(posixpath.dirname(self.tree)))

    def _host_argument(self) -> str:
        """Return the host, in brackets if it is an IPv6 address."""
        host = self.sender.ssh_host
        return f"[{host}]" if ":" in host else host

    def _delta_options(self) -> list[bytes]:
        if not self.delta:
            return [b"--whole-file"]
        above, name = posixpath.split(self._state())
        # The basis is the live tree (`agent.places.layout`): read and copied from, never linked.
        return [
            b"--no-whole-file",
            b"--copy-dest=" + posixpath.join(posixpath.dirname(above), name),
        ]

    def _wire_options(self) -> list[bytes]:
        options = [b"--no-compress"]
        if self.compress:
            options = [b"--compress", b"--compress-choice=zstd", b"--compress-level=1"]
        if self.limit_bits_per_second is not None:
            # In units of 1024 bytes per second; 0 would mean no limit.
            options.append(b"--bwlimit=%d" % max(1, self.limit_bits_per_second // 8 // 1024))
        return options

    def _receiver(self) -> str:
        """Return the command that runs rsync there: ASCII, with one meaning to sh, csh and fish."""
        program = inspect.getsource(writer_guard).encode().hex()
        state, rsync = self._state().hex(), os.fsencode(self.rsync).hex()
        start = f"exec {self.python} -S -I -B -c 'exec(bytes.fromhex(\"{program}\"))'"
        return f"{start} {state} {self.token} {rsync}"


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
