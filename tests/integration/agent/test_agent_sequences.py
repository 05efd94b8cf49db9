"""Any sequence of what happens to environments: after each step, what is kept is what it was.

Two environments of one prefix, so that one takes contents from the other. A push that dies
is killed as it stands, which is what a power cut leaves on a disk that lost nothing.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from envsync.agent.places.records import Record
from envsync.agent.server import filesystem
from envsync.agent.target import planning
from envsync.agent.target.gc import sweep
from envsync.agent.target.gc_survey import Rules
from envsync.errors import NotFound, PreflightRefused, SourceRefused
from envsync.tree.manifest import Manifest
from envsync.tree.revision import revision_of
from tests.support import disk
from tests.support.disk import memory
from tests.support.pushes import NAME, Server, die_in, environment
from tests.support.trees import Node, Tree, file, manifest_of, trees, variants

NAMES = (NAME, f"other-{NAME}")
STEPS = ("intent", "sync", "switch", "switched", "check", "record", "recorded")
YEAR_SECONDS = 365 * 86400
names = st.sampled_from(NAMES)


class Environment:
    """What is to be expected of one: each of `standing` may stand there, None for nothing.

    `changed` are the trees, by inode, that somebody wrote to and nobody looked at since; `by_hand`
    the revisions that only that made.
    """

    def __init__(self, server: Server) -> None:
        self.server = server
        self.standing: list[Manifest | None] = [None]
        self.changed: set[int] = set()
        self.by_hand: set[str] = set()

    def plain(self) -> list[Record]:
        """The versions that may go when others have come, the one that stands there too."""
        records = self.server.target().records.all()
        return [r for r in records if not r.kept_because and r.inode not in self.changed]

    def read(self) -> Manifest | None:
        return self.server.manifest() if os.path.isdir(self.server.live) else None


class Sequences(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.stack = contextlib.ExitStack()
        root = Path(self.stack.enter_context(tempfile.TemporaryDirectory(dir=memory())))
        self.cache = root / "cache"
        self.all = {name: Environment(Server(root, name)) for name in NAMES}
        self.nodes: dict[bytes, Node] = {}
        self.offset_seconds = 0
        patch = mock.patch.object
        self.stack.enter_context(patch(filesystem, "FINE_MARGIN_SECONDS", 0.002))
        # However small: what the other one has is taken from there.
        self.stack.enter_context(patch(planning, "REUSE_BYTES_MIN", 1))
        clock = time.time
        self.stack.enter_context(patch(time, "time", lambda: clock() + self.offset_seconds))

    def teardown(self) -> None:
        self.stack.close()

    # What happens

    @initialize(nodes=trees())
    def made(self, nodes: Tree) -> None:
        self.nodes = dict(nodes)

    @rule(data=st.data())
    def change(self, data: st.DataObject) -> None:
        self.nodes = data.draw(variants(self.nodes))

    @property
    def wanted(self) -> Tree:
        """What the source has now."""
        packages = {b"conda-meta/one-1-0.json": file(b"{}")}
        return environment({**self.nodes, **packages})

    @rule(name=names, keep=st.sampled_from([0, 1, 2, 2]), is_hashed_meanwhile=st.booleans())
    def push(self, name: str, keep: int, is_hashed_meanwhile: bool) -> None:
        one = self.all[name]
        before = len(one.plain())
        record = one.server.push(
            self.wanted, keep=keep, retry_held=True, is_hashed_meanwhile=is_hashed_meanwhile
        )
        assert record.revision == revision_of(manifest_of(self.wanted))
        assert len(one.plain()) - 1 >= min(keep, before)
        one.standing = [manifest_of(self.wanted)]
        one.changed.clear()

    @rule(name=names, step=st.sampled_from(STEPS))
    def push_and_die(self, name: str, step: str) -> None:
        one = self.all[name]

        def action(die: Callable[[], None]) -> None:
            def on_step(at: str) -> None:
                if at == step:
                    die()

            one.server.push(self.wanted, keep=1, retry_held=True, on_step=on_step)

        before = one.read()
        die_in(action)
        one.standing = [before, manifest_of(self.wanted)]

    @rule(name=names)
    def push_and_die_before_the_transfer(self, name: str) -> None:
        with self.all[name].server.staged(self.wanted) as push:
            push.staging.close()

    @rule(name=names, keep=st.integers(0, 2), at=st.none() | st.integers(0, 3))
    def a_spare_is_made(self, name: str, keep: int, at: int | None) -> None:
        """Or dies of it, `at` one of the files that it copies."""
        one = self.all[name]

        def make(die: Callable[[], None]) -> None:
            with contextlib.suppress(SourceRefused):
                one.server.make_spare(keep, dying_at(at, die))

        die_in(make, may_live=True)

    @rule(name=names, is_in_place=st.booleans())
    def drift(self, name: str, is_in_place: bool) -> None:
        """As conda does, in place; or a new file in the place of the old one."""
        one = self.all[name]
        if not os.path.isdir(one.server.live):
            return
        one.by_hand.discard(one.server.revision())
        history = one.server.live + b"/conda-meta/history"
        with open(history, "rb") as file:
            content = file.read()
        if not is_in_place:
            os.unlink(history)
        with open(history, "ab" if is_in_place else "wb") as file:
            file.write(b"==> changed by hand <==\n" if is_in_place else content + b"+ and more\n")
        one.changed.add(os.stat(one.server.live).st_ino)
        one.standing = [one.read()]
        one.by_hand.add(one.server.revision())

    @rule(name=names, keep=st.integers(0, 1), is_in_place=st.booleans())
    def push_over_a_change(self, name: str, keep: int, is_in_place: bool) -> None:
        """What the rules above make together, but not often."""
        self.push(name, 1, is_hashed_meanwhile=False)
        self.drift(name, is_in_place)
        self.push(name, keep, is_hashed_meanwhile=False)

    @rule(name=names)
    def rollback(self, name: str) -> None:
        one = self.all[name]
        try:
            record = one.server.rollback(overwrite=True)
        except (NotFound, PreflightRefused):
            one.standing = [one.read() if one.read() in one.standing else None]
            return
        manifest = one.server.target().records.manifest(record_of(one.server, record.number))
        one.standing = [manifest]
        one.changed.clear()

    @rule(name=names, keep=st.integers(0, 1), drifted=st.booleans())
    def gc(self, name: str, keep: int, drifted: bool) -> None:
        one = self.all[name]
        sweep(one.server.target(), Rules(keep, drifted, False, time.time()))
        if drifted:
            one.by_hand &= {one.server.revision()}

    @rule(years=st.integers(-2, 2))
    def the_clock_jumps(self, years: int) -> None:
        self.offset_seconds = years * YEAR_SECONDS

    @precondition(lambda self: self.cache.is_dir())
    @rule(at=st.floats(0, 1), is_torn=st.booleans())
    def the_cache_is_damaged(self, at: float, is_torn: bool) -> None:
        for path in filter(Path.is_file, self.cache.rglob("*")):
            content = bytearray(path.read_bytes())
            middle = int(at * max(0, len(content) - 1))
            if is_torn:
                del content[middle:]
            elif content:
                content[middle] ^= 1
            path.write_bytes(content)

    # What holds after each

    @invariant()
    def one_whole_version_stands(self) -> None:
        for one in self.all.values():
            assert one.read() in one.standing

    @invariant()
    def every_generation_is_what_its_record_says(self) -> None:
        for one in self.all.values():
            known = one.server.target().records
            standing = one.server.target().layout.standing()
            for record in known.all():
                if record.inode in one.changed:
                    continue
                is_live = os.path.isdir(standing) and os.stat(standing).st_ino == record.inode
                tree = standing if is_live else known.tree(record)
                assert tree is not None, record
                assert disk.uncached().snapshot(tree).revision == record.revision
                manifest = known.manifest(record)
                assert manifest is not None
                assert revision_of(manifest) == record.revision

    @invariant()
    def no_change_by_hand_is_lost(self) -> None:
        for one in self.all.values():
            if (one.server.state / "intent.json").exists():
                continue  # who takes the lock next records what was switched out
            on_record = {record.revision for record in one.server.target().records.earlier()}
            assert one.by_hand <= {*on_record, one.server.revision()}

    @invariant()
    def no_two_trees_share_an_inode(self) -> None:
        seen: dict[int, bytes] = {}
        for tree in self._trees():
            for inode in set(inodes(tree)):
                assert seen.setdefault(inode, tree) == tree

    def _trees(self) -> Iterator[bytes]:
        for one in self.all.values():
            layout = one.server.target().layout
            if os.path.isdir(one.server.live):
                yield one.server.live
            yield from layout.other_trees()


def dying_at(count: int | None, die: Callable[[], None]) -> Callable[[int], None]:
    """Progress that lasts for so many calls."""
    calls = itertools.count()
    return lambda _: die() if next(calls) == count else None


def record_of(server: Server, number: int) -> Record:
    [record] = [r for r in server.target().records.all() if r.number == number]
    return record


def inodes(tree: bytes) -> Iterator[int]:
    for directory, _, files in os.walk(tree):
        for name in files:
            status = os.lstat(os.path.join(directory, name))
            if stat.S_ISREG(status.st_mode):
                yield status.st_ino


TestSequences = Sequences.TestCase
TestSequences.settings = settings(
    max_examples=14,
    # Shrinking takes minutes, and no step is long.
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    stateful_step_count=14,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
