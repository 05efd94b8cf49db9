"""Whole pushes inside one process, from a directory to a prefix, without a network."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

from envsync.agent.places.local_rules import VersionDirectories
from envsync.agent.places.records import Records
from envsync.agent.target import switches
from envsync.agent.target.push import TargetPush
from envsync.agent.target.spare import make_spare
from envsync.agent.target.target import Target
from envsync.agent.trees.directory_read import open_directory
from envsync.agent.trees.outgoing import outgoing
from envsync.agent.trees.trees import Trees
from envsync.agent.wire.build_operations import Check, Publication
from envsync.agent.wire.messages import RecordFacts
from envsync.agent.wire.target_operations import OpenTarget, Requester
from envsync.conda.manifest_packages import metadata_paths
from envsync.tree.entry import Entry
from envsync.tree.local import LocalPaths
from envsync.tree.manifest import Manifest
from envsync.tree.revision import revision_of
from envsync.tree.sharing import Share
from tests.support import disk
from tests.support.trees import Node, Tree, file, manifest_of, with_parents

NAME = f"env{os.getpid()}"
"""An environment's name that no process but those of this test run has on its command line.

Anybody's `conda install -n NAME` keeps an environment of that name busy, under any prefix.
"""
HISTORY = {b"conda-meta/history": file(b"==> now <==\n")}


def environment(nodes: Tree) -> dict[bytes, Node]:
    """Return the tree with what makes it a conda environment."""
    return with_parents({**nodes, **HISTORY})


class Server:
    """A prefix on this machine, and one environment in it."""

    share: Share | None = None
    """The group with which pushes share the environment; None for none."""
    overwrites_foreign = False
    """Whether pushes overwrite a version that their source never had."""
    environment_id = ""
    """What the source of pushes is known by on every machine."""
    requester = Requester("alice@here")

    def __init__(self, root: Path, name: str = NAME) -> None:
        self.name = name
        self.prefix = root / "prefix"
        self.cache = str(root / "cache")
        self.scratch = root / "source"
        for path in (self.prefix / "envs", self.prefix / "conda-meta", self.scratch):
            path.mkdir(parents=True, exist_ok=True)

    @property
    def live(self) -> bytes:
        return os.fsencode(self.prefix / "envs" / self.name)

    @property
    def state(self) -> Path:
        return self.prefix / "envs" / ".envsync" / self.name

    def target(self, local: Sequence[str] = ("local",)) -> Target:
        return self.target_at(self.prefix, local)

    def target_at(self, prefix: Path, local: Sequence[str] = ("local",)) -> Target:
        """Return the target by another path of the prefix."""
        request = OpenTarget(str(prefix), self.name, None, self.requester)
        return Target(request, local, self.cache)

    def earlier(self) -> list[bytes]:
        """Return the trees that are not live."""
        return self.target().layout.other_trees()

    def tree(self) -> dict[bytes, Node]:
        """Return the live tree."""
        return disk.read(self.live)

    def manifest(self) -> Manifest:
        return disk.uncached().snapshot(self.target().layout.standing()).manifest()

    def revision(self) -> str:
        """Return the revision of the live tree; empty if there is none."""
        return revision_of(self.manifest()) if os.path.isdir(self.live) else ""

    def push(
        self,
        nodes: Tree,
        *,
        local: Sequence[str] = ("local",),
        keep: int = 1,
        check: str = "",
        retry_held: bool = False,
        on_step: Callable[[str], None] = lambda _: None,
        before_publish: Callable[[], None] = lambda: None,
        is_hashed_meanwhile: bool = False,
    ) -> RecordFacts:
        """Push a tree from a directory that is made for it.

        With `is_hashed_meanwhile`, the target first does what it does while the source is being
        hashed: it looks at the tree to build on, or copies a similar environment of its own.
        """
        with tempfile.TemporaryDirectory(dir=self.scratch) as directory:
            source = os.fsencode(directory)
            disk.build(source, nodes)
            target = self.target(local)
            target.on_step, target.keep = on_step, keep
            try:
                target.inspect(lock=True)
                push = TargetPush(target)
                if is_hashed_meanwhile:
                    push.prepare()
                if self.overwrites_foreign:
                    push.keep_live()
                if self.share is not None:
                    push.share(self.share)
                wanted = manifest_of(nodes)
                if is_hashed_meanwhile and push.refer_to(metadata_paths(wanted)):
                    push.begin_alike()
                transfer(source, push.stage(wanted).fetches, push)
                push.complete()
                before_publish()
                return push.publish(
                    Publication(
                        source_revision=revision_of(wanted),
                        source="server1",
                        who="alice@server1",
                        method="mirror",
                        transport="stream",
                        check=Check(check, 20.0),
                        retry_held=retry_held,
                        environment_id=self.environment_id,
                    )
                )
            finally:
                target.lock.release()

    @contextlib.contextmanager
    def staged(self, nodes: Tree) -> Iterator[TargetPush]:
        """Yield a push that has staged, but not transferred anything."""
        target = self.target()
        try:
            target.inspect(lock=True)
            push = TargetPush(target)
            push.stage(manifest_of(nodes))
            yield push
        finally:
            target.lock.release()

    def make_spare(self, keep: int = 1, progress: Callable[[int], None] | None = None) -> bool:
        target = self.target()
        target.keep = keep
        return make_spare(target, progress)

    def rollback(
        self,
        number: int | None = None,
        overwrite: bool = False,
        on_step: Callable[[str], None] = lambda _: None,
        local: Sequence[str] = ("local",),
    ) -> RecordFacts:
        target = self.target(local)
        target.on_step = on_step
        try:
            return switches.rollback(target, number, "bob@here", overwrite)
        finally:
            target.lock.release()

    def remove(self, overwrite: bool = False) -> RecordFacts:
        target = self.target()
        try:
            return switches.remove(target, "bob@here", overwrite)
        finally:
            target.lock.release()


def transfer(source: bytes, fetches: Collection[tuple[bytes, Entry]], push: TargetPush) -> None:
    top_fd = open_directory(source)
    incoming = push.receiver(fetches)
    try:
        for block in outgoing(top_fd, [(path, entry.size_bytes) for path, entry in fetches]):
            incoming.feed(block)
        incoming.finish()
    finally:
        incoming.abort()
        os.close(top_fd)
    assert not incoming.failed


def die_in(action: Callable[[Callable[[], None]], object], *, may_live: bool = False) -> bool:
    """Run `action(die)` in a child process, and assert that it died there; return whether it did.

    `die` kills the child at once, like a power cut or the kernel. With `may_live`, the action may
    return instead. What it raises fails the test in any case.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # about forking with threads
        pid = os.fork()
    if pid == 0:
        status = 1
        try:
            action(lambda: os.kill(os.getpid(), signal.SIGKILL))
            status = 0
        finally:
            if status:
                traceback.print_exc()
                sys.stderr.flush()
            os._exit(status)
    _, status = os.waitpid(pid, 0)
    has_died = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    assert has_died or status == 0, "the child failed; its standard error says how"
    assert has_died or may_live, "the child was to die, and returned"
    return has_died


def records(server: Server) -> Records:
    return server.target().records


def require_sound(server: Server, local: Sequence[str] = ("local",)) -> None:
    """Assert that every record has its manifest and its tree, and that they match."""
    known = records(server)
    standing = server.target().layout.standing()
    live = os.stat(standing).st_ino
    for record in known.all():
        tree = standing if record.inode == live else known.tree(record)
        assert tree is not None, record
        trees = Trees(None, LocalPaths(local), versions=VersionDirectories(known))
        assert trees.snapshot(tree).revision == record.revision
        manifest = known.manifest(record)
        assert manifest is not None
        assert revision_of(manifest) == record.revision
    assert not (server.state / "intent.json").exists()
