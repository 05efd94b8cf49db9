"""Builds the command lines of both rsyncs."""

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
class RsyncCommand:
    """One run: from `source` here to the staging tree there.

    `tree` is the staging tree's path, `python` and `rsync` are programs there. With `delta`
    files are compared with the live tree's, which costs time for each of them.
    """

    program: str
    ssh_argv: Sequence[str]
    ssh_host: str
    source: bytes
    tree: str
    token: str
    python: str
    rsync: str
    delta: bool = False
    compress: bool = False
    limit_bits_per_second: int | None = None

    def argv(self) -> list[bytes]:
        """For the local rsync; the paths of the files are read from its stdin."""
        tree = os.fsencode(self.tree)
        state = posixpath.dirname(posixpath.dirname(tree))
        return [
            os.fsencode(self.program),
            # What has the size and the time of the old file may be another one all the same.
            b"--ignore-times",
            b"--from0",
            b"--files-from=-",
            b"--no-implied-dirs",
            # Paths past the shell there; by the name that every rsync from 3.0 on knows.
            b"-s",
            # Modes and times are the agent's, by the manifest. Nobody else looks in till then.
            b"--chmod=F600",
            b"--partial-dir=" + posixpath.join(state, scratch_files.PARTIAL),
            b"--temp-dir=" + posixpath.join(state, scratch_files.TEMPORARY),
            *self._delta_options(),
            b"--timeout=%d" % IO_TIMEOUT_SECONDS,
            b"--no-human-readable",
            b"--info=progress2,stats2,flist0,name0",
            *self._wire_options(),
            b"--rsh=" + os.fsencode(joined(self.ssh_argv)),
            b"--rsync-path=" + self._receiver().encode("ascii"),
            self.source + b"/",
            os.fsencode(self._host_argument()) + b":.",
        ]

    def _host_argument(self) -> str:
        """In brackets where it has colons, as addresses of IPv6 do."""
        return f"[{self.ssh_host}]" if ":" in self.ssh_host else self.ssh_host

    def _delta_options(self) -> list[bytes]:
        if not self.delta:
            return [b"--whole-file"]
        above, name = posixpath.split(posixpath.dirname(posixpath.dirname(os.fsencode(self.tree))))
        # The live tree (`agent.places.layout`) is the basis: read, copied from, never linked to.
        return [
            b"--no-whole-file",
            b"--copy-dest=" + posixpath.join(posixpath.dirname(above), name),
        ]

    def _wire_options(self) -> list[bytes]:
        options = [b"--no-compress"]
        if self.compress:
            options = [b"--compress", b"--compress-choice=zstd", b"--compress-level=1"]
        if self.limit_bits_per_second is not None:
            # In units of 1024 bytes a second; 0 would mean no limit.
            options.append(b"--bwlimit=%d" % max(1, self.limit_bits_per_second // 8 // 1024))
        return options

    def _receiver(self) -> str:
        """What stands for `rsync` there: fixed ASCII, the same to sh, csh and fish."""
        program = inspect.getsource(writer_guard).encode().hex()
        state = os.fsencode(posixpath.dirname(posixpath.dirname(self.tree))).hex()
        rsync = os.fsencode(self.rsync).hex()
        start = f"exec {self.python} -S -I -B -c 'exec(bytes.fromhex(\"{program}\"))'"
        return f"{start} {state} {self.token} {rsync}"


def joined(argv: Sequence[str]) -> str:
    """One string that rsync takes apart into these arguments again.

    rsync splits at blanks and knows quotes; inside them a doubled quote stands for one,
    and a backslash for itself.
    """
    return " ".join("'" + argument.replace("'", "''") + "'" for argument in argv)


def is_plain(path: str) -> bool:
    """Whether every login shell takes the path for what it is, without quotes."""
    return _PLAIN_PATH.fullmatch(path) is not None


def speaks_zstd(version_text: str) -> bool:
    """Whether `rsync --version` lists zstd."""
    _, _, after = version_text.partition("Compress list:")
    return "zstd" in after.strip().partition("\n")[0].split()


def version(version_text: str) -> tuple[int, int] | None:
    """Major and minor version, None where it does not say."""
    found = re.match(r"rsync +version +v?(\d{1,9})\.(\d{1,9})", version_text)
    return None if found is None else (int(found[1]), int(found[2]))
