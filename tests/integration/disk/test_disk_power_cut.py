"""The power goes between any two writes of a publish, on a real ext4 with a volatile cache.

Each scenario runs once while the disk remembers every write and flush. Then the disk becomes
what a power cut at a moment would have left, is mounted again, and the next contact finds it.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from envsync.agent.server import filesystem, machine
from envsync.errors import CheckFailed
from envsync.tree.revision import revision_of
from tests.disk.disk import Disk
from tests.disk.fixtures import MakeDisk
from tests.support import disk as real
from tests.support.disk import memory
from tests.support.pushes import NAME, Server, environment, records, require_sound
from tests.support.trees import Tree, file, manifest_of, symlink

CUTS = int(os.environ.get("ENVSYNC_CUTS", "6"))
"""How many power cuts each scenario gets, of all that could be; they differ by ENVSYNC_SEED."""

SEED = int(os.environ.get("ENVSYNC_SEED", time.time() // 86400))
"""By default, of the day; a failure prints it."""


def version(number: int) -> Tree:
    """One that differs from the others in files of all sizes, and shares one with them."""
    own = b"version %d " % number
    return environment(
        {
            b"bin/tool": file(own, 0o755),
            b"lib/large": file(own * 20_000),
            b"lib/linked": file(own * 10, inode=1),
            b"lib/linked-too": file(own * 10, inode=1),
            b"lib/shared": file(b"the same" * 500),
            b"share/%d" % number: symlink(b"../bin"),
        }
    )


ONE, TWO, THREE = version(1), version(2), version(3)
REVISIONS = {number: revision_of(manifest_of(version(number))) for number in (1, 2, 3)}
Step = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is interrupted. `before` and `after` are versions; 0: nothing stands there."""

    prepare: Callable[[Server], object]
    act: Callable[[Server, Step], object]
    before: int
    after: int


def _failing_push(server: Server, on_step: Step) -> None:
    with pytest.raises(CheckFailed):
        server.push(TWO, check="false", on_step=on_step)


def _one_and_two(server: Server) -> None:
    server.push(ONE)
    server.push(TWO)


def _one_changed(server: Server) -> None:
    server.push(THREE)
    real.shift_content(server.live + b"/bin/tool")


SCENARIOS = {
    "first push": Scenario(
        lambda _: None, lambda server, step: server.push(TWO, on_step=step), 0, 2
    ),
    "later push": Scenario(
        lambda server: server.push(ONE), lambda server, step: server.push(TWO, on_step=step), 1, 2
    ),
    "push onto a spare version": Scenario(
        lambda server: (server.push(TWO), server.push(ONE)),
        lambda server, step: server.push(TWO, on_step=step),
        1,
        2,
    ),
    "push over a change by hand": Scenario(
        _one_changed, lambda server, step: server.push(TWO, on_step=step), -3, 2
    ),
    "rollback": Scenario(_one_and_two, lambda server, step: server.rollback(on_step=step), 2, 1),
    "a check that fails": Scenario(lambda server: server.push(ONE), _failing_push, 1, 1),
}


class Recorded:
    """A scenario that ran once, and everything that the disk was told meanwhile."""

    def __init__(self, server: DiskServer, scenario: Scenario, *, busy: bool) -> None:
        """With `busy`, the kernel writes everything back at each step, as it may."""
        self.server = server
        self.scenario = scenario
        self._disk = server.disk
        self._caches: list[tuple[int, Path]] = []
        self._moments: dict[str, int] = {}
        self._disk.mount()
        server.make_directories()
        scenario.prepare(server)
        self.revision_before = server.revision()
        self._write_back()
        self._disk.record()

        def on_step(step: str) -> None:
            if busy:
                self._write_back()
            self._note(step)

        self._note("began")
        scenario.act(server, on_step)
        self._note("done")
        self._disk.unmount()
        self.intent, self.done = self._moments["intent"], self._moments["done"]
        self._log = self._disk.stop_recording()[: self.done]

    def _note(self, step: str) -> None:
        """A step begins: where the disk's log is, and what the user's cache holds."""
        position = self._disk.position()
        self._moments[step] = position
        copy = Path(self.server.cache).with_name(f"cache-{position}")
        if Path(self.server.cache).exists() and not copy.exists():
            shutil.copytree(self.server.cache, copy)
            self._caches.append((position, copy))

    def _write_back(self) -> None:
        fd = os.open(self._disk.mount_point, os.O_RDONLY)
        try:
            filesystem.sync_filesystem(fd)
        finally:
            os.close(fd)

    def cuts(self) -> list[tuple[int, str, int]]:
        """A sample of the states that a power cut can leave.

        The first and the last one are always in it, and one from the intent on.
        A cache that is lost as a whole has a state for each flush; one that is kept, for each
        write; of what is written in part, there are more than can be counted.
        """
        flushed = [at + 1 for at, what in enumerate(self._log) if what == "f"]
        every = [(position, "lost", 0) for position in (0, *flushed)]
        every += [(position, "kept", 0) for position in range(1, self.done)]
        every += [(position, "some", number) for number in (1, 2) for position in range(self.done)]
        chance = random.Random(SEED)
        chosen = chance.sample(every, min(CUTS - 1, len(every)))
        chosen.append(chance.choice([cut for cut in every if cut[0] > self.intent]))
        return [(0, "lost", 0), *chosen, (self.done, "lost", 0)]

    @contextlib.contextmanager
    def cut(self, position: int, cached: str, seed: int) -> Iterator[None]:
        """The disk after a power cut, mounted, and the content cache as it was at that time."""
        self._disk.cut_power(position, cached, seed)
        shutil.rmtree(self.server.cache, ignore_errors=True)
        copies = [copy for at, copy in self._caches if at <= position]
        if copies:
            shutil.copytree(copies[-1], self.server.cache)
        self._disk.mount()
        try:
            yield
        except AssertionError as error:
            raise AssertionError(
                f"cut after {position} of {self._log}: {cached} ({seed}); ENVSYNC_SEED={SEED}"
            ) from error
        self._disk.unmount()


class DiskServer(Server):
    """A prefix on a disk; the user's cache and the sources are elsewhere, and survive."""

    def __init__(self, disk: Disk, elsewhere: Path) -> None:
        self.name = NAME
        self.disk = disk
        self.prefix = disk.mount_point / "prefix"
        self.cache = str(elsewhere / "cache")
        self.scratch = elsewhere / "source"

    def make_directories(self) -> None:
        for path in (self.prefix / "envs", self.prefix / "conda-meta", self.scratch):
            path.mkdir(parents=True)


@pytest.fixture
def server(make_disk: MakeDisk) -> Iterator[DiskServer]:
    with tempfile.TemporaryDirectory(dir=memory()) as elsewhere:
        yield DiskServer(make_disk(), Path(elsewhere))


@pytest.mark.timeout(120)
@pytest.mark.parametrize("busy", [False, True], ids=["idle", "written back at each step"])
@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS.keys())
def test_version_is_whole_after_a_power_cut_at_any_write(
    scenario: Scenario, busy: bool, server: DiskServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = Recorded(server, scenario, busy=busy)
    monkeypatch.setattr(machine, "boot_id", lambda: "another boot")
    for position, cached, seed in recorded.cuts():
        with recorded.cut(position, cached, seed):
            contact(recorded, position)


def contact(recorded: Recorded, position: int) -> None:
    """The next contact and the next push, after a power cut there."""
    server, scenario = recorded.server, recorded.scenario
    recover(server, may_fail=scenario.after == scenario.before)
    stands = server.revision()
    before = REVISIONS.get(scenario.before, recorded.revision_before)
    after = REVISIONS[scenario.after]
    if position <= recorded.intent:
        assert stands == before
    elif position >= recorded.done:
        assert stands == after
    else:
        assert stands in {before, after}
    for number, revision in REVISIONS.items():
        if stands == revision:
            assert server.manifest() == manifest_of(version(number))
    if stands in REVISIONS.values():
        require_sound(server)
        target = server.target()
        current = target.look().record
        assert current is not None
        assert current.revision == stands
    known = [record.revision for record in records(server).all()]
    assert scenario.before <= 0 or before in known, "the version before is lost"
    server.push(THREE)
    assert server.manifest() == manifest_of(THREE)
    require_sound(server)
    if scenario.before < 0:
        assert before in [r.revision for r in records(server).all() if r.kept_because]


def recover(server: Server, *, may_fail: bool) -> None:
    """What every push does first. Where the check was failing, it says so, once."""
    for _ in range(2):
        target = server.target()
        try:
            target.inspect(lock=True)
            return
        except CheckFailed:
            assert may_fail
        finally:
            target.lock.release()
    raise AssertionError("a failed check is told for ever")


def test_a_check_that_fills_the_disk(server: DiskServer) -> None:
    """The way back takes no room: what fails its check never stays for want of that."""
    server.disk.mount()
    server.make_directories()
    server.push(ONE)
    fillers = [server.prefix / f"filler{number}" for number in range(3)]
    # More than once: what was reserved for the first is free again when it is on the disk. On
    # this one: others are other tests' at the same time.
    filling = [f"dd if=/dev/zero of={path} bs=512 conv=fsync 2>/dev/null" for path in fillers]
    check = f"; sync -f {server.prefix}; ".join([*filling, "false"])
    with pytest.raises(CheckFailed) as failed:
        server.push(TWO, check=check)
    assert "could not be recorded" in failed.value.hint
    assert server.manifest() == manifest_of(ONE)
    for filler in fillers:
        filler.unlink()
    with pytest.raises(CheckFailed) as failed:
        server.push(TWO, check="false")
    assert "held there" in failed.value.hint
    assert server.manifest() == manifest_of(ONE)
    server.push(THREE)
    require_sound(server)
    server.disk.unmount()


def test_hash_of_bytes_that_never_reached_the_disk_is_not_believed(
    server: DiskServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The power goes when a file's status is on the disk and its bytes are not.

    Its status after that is the one that was seen when it was hashed.
    """
    server.disk.mount("data=writeback,nodelalloc")
    server.make_directories()
    server.push(ONE)
    server.disk.record()
    young = Path(os.fsdecode(server.live), "lib/young")
    young.write_bytes(b"installed by hand" * 1000)
    seen = server.target().inspect(lock=False)
    directory = os.open(young.parent, os.O_RDONLY)
    os.fsync(directory)
    os.close(directory)
    position = server.disk.position()
    server.disk.unmount()
    server.disk.stop_recording()

    server.disk.cut_power(position, "lost")
    server.disk.mount()
    monkeypatch.setattr(machine, "boot_id", lambda: "another boot")
    assert young.stat().st_size == 17_000
    assert server.revision() != seen.revision, "this power cut took nothing away"
    assert server.target().inspect(lock=False).revision == server.revision()
