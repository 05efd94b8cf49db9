"""A source and a target on one machine, with a real sshd and a real agent between them."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from envsync.agent.wire.build_operations import Check, Publication
from envsync.agent.wire.target_operations import OpenTarget, Requester
from envsync.push.ends.end import RemoteEnd
from envsync.push.ends.local_source import LocalSource, open_local
from envsync.push.ends.target_end import TargetEnd
from envsync.push.request.places import Place
from envsync.ssh.fabric_link import FabricLink
from envsync.transport.job import Job, Receiver
from tests.lab.loopback_sshd import LoopbackSshd
from tests.support.links import open_fabric_link

NAME = "myenv"
Shape = dict[bytes, tuple[int, int, bytes]]
"""Mode, mtime in nanoseconds and content of each file by its path."""


@dataclass
class TwoEnds:
    """`fill` the source, `open`, then send jobs of `job()` and look at `target_files()`."""

    sshd: LoopbackSshd
    source_prefix: Path
    target_prefix: Path
    stack: ExitStack
    sent_bytes: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        for prefix in (self.source_prefix, self.target_prefix):
            (prefix / "envs").mkdir(parents=True)
            (prefix / "conda-meta").mkdir()
        (self.source / "conda-meta").mkdir(parents=True)
        (self.source / "conda-meta" / "history").write_text("==> made by a test <==\n")

    @property
    def source(self) -> Path:
        return self.source_prefix / "envs" / NAME

    @property
    def live(self) -> Path:
        return self.target_prefix / "envs" / NAME

    @property
    def state(self) -> Path:
        return self.target_prefix / "envs" / ".envsync" / NAME

    def write(self, path: bytes, content: bytes, mode: int = 0o644, mtime_ns: int = 1) -> None:
        """A file of the source; directories are made as needed."""
        write_below(os.fsencode(self.source), path, content, mode, mtime_ns)

    def open_source(self) -> LocalSource:
        return open_local(Place("here", str(self.source_prefix)), NAME, [])

    def begin(self) -> StagedPush:
        """A push as far as staging, by a link and an agent of its own."""
        link = open_fabric_link(self.sshd.address, environ=self.sshd.environ)
        self.stack.callback(link.close)
        end = RemoteEnd(link, str(self.target_prefix))
        self.stack.callback(end.close)
        target = TargetEnd(end, OpenTarget(str(self.target_prefix), NAME, (), Requester("test")))
        source = self.open_source()
        assert source.look.confirmed(source.look.state())
        target.inspect(lock=True)
        staged = target.stage(source.manifest(target.references()))
        job = Job(
            supply=source.supply,
            target=Receiver(link, target.ask, target.python, target.codecs),
            items=source.items(staged.fetches),
            all_fetches=True,
            tree=staged.tree,
            token=staged.token,
            limit_bits_per_second=None,
            on_sent=self.sent_bytes.append,
        )
        return StagedPush(link, end, target, job)

    def source_files(self) -> Shape:
        return files_below(os.fsencode(self.source))


@dataclass
class StagedPush:
    """A push whose staging tree waits for its files."""

    link: FabricLink
    end: RemoteEnd
    target: TargetEnd
    job: Job

    def staged_files(self) -> Shape:
        return files_below(os.fsencode(self.job.tree))

    def only(self, *paths: bytes) -> Job:
        items = tuple(item for item in self.job.items if item[0] in paths)
        return replace(self.job, items=items, all_fetches=False)

    def with_progress(self, on_sent: Callable[[int], None]) -> Job:
        return replace(self.job, on_sent=on_sent)

    def limited(self, bits_per_second: int) -> Job:
        return replace(self.job, limit_bits_per_second=bits_per_second)

    def publish(self, transport: str) -> None:
        how = ("here", "test", "mirror", transport, Check(), False)
        self.target.publish(Publication("revision", *how))

    def close(self) -> None:
        self.end.close()
        self.link.close()


def write_below(
    top: bytes, path: bytes, content: bytes, mode: int = 0o644, mtime_ns: int = 1
) -> None:
    """Also where the whole path would be longer than the kernel takes."""
    *directories, name = path.split(b"/")
    fd = os.open(top, os.O_RDONLY)
    try:
        for directory in directories:
            with suppress(FileExistsError):
                os.mkdir(directory, dir_fd=fd)
            inner = os.open(directory, os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
            os.close(fd)
            fd = inner
        file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600, dir_fd=fd)
        with os.fdopen(file, "wb") as out:
            out.write(content)
            out.flush()
            os.fchmod(file, mode)
            os.utime(file, ns=(mtime_ns, mtime_ns))
    finally:
        os.close(fd)


def files_below(top: bytes) -> Shape:
    return dict(_files(os.open(top, os.O_RDONLY), b""))


def _files(fd: int, start: bytes) -> Iterator[tuple[bytes, tuple[int, int, bytes]]]:
    try:
        for name in map(os.fsencode, os.listdir(fd)):
            status = os.stat(name, dir_fd=fd, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
                yield from _files(inner, start + name + b"/")
            elif stat.S_ISREG(status.st_mode):
                with os.fdopen(os.open(name, os.O_RDONLY, dir_fd=fd), "rb") as file:
                    content = file.read()
                mode = stat.S_IMODE(status.st_mode) & ~stat.S_IWOTH
                yield start + name, (mode, status.st_mtime_ns, content)
    finally:
        os.close(fd)


@contextmanager
def two_ends(directory: Path) -> Iterator[TwoEnds]:
    with ExitStack() as stack:
        sshd = stack.enter_context(LoopbackSshd(directory))
        yield TwoEnds(sshd, directory / "source", directory / "target", stack)
