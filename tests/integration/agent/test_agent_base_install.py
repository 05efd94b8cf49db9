"""Conda's base comes to a prefix that holds environments and no conda; whoever dies on the way."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from envsync.agent.places.base import OWN_ENTRIES
from envsync.agent.server import filesystem
from envsync.agent.target.target import Target
from envsync.agent.wire.messages import TargetState
from envsync.agent.wire.target_operations import OpenTarget, Requester
from envsync.errors import PreflightRefused, TargetDrifted
from tests.integration.agent.versions import STEPS, kill_at
from tests.support.mounts import bind, in_a_namespace
from tests.support.pushes import Server, die_in, environment
from tests.support.trees import file

pytestmark = pytest.mark.usefixtures("each_way")

BASE = environment(
    {
        b"LICENSE.txt": file(b"l"),
        b"bin/python": file(b"python", 0o755),
        b"conda-meta/python-3.13.1-0.json": file(b"{}"),
        b"lib/x": file(b"x"),
    }
)


class Base(Server):
    """A prefix itself, as `bootstrap` has it."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, "base")
        os.rmdir(self.prefix / "conda-meta")
        mine = self.prefix / "envs/mine/lib"
        mine.mkdir(parents=True)
        (mine / "file").write_text("mine")
        self.inodes = self.seen()

    @property
    def live(self) -> bytes:
        return os.fsencode(self.prefix)

    @property
    def state(self) -> Path:
        return self.prefix.parent / ".envsync" / self.prefix.name

    def target_at(self, prefix: Path, local: object = ()) -> Target:
        request = OpenTarget(str(prefix), "base", None, Requester("alice@here"))
        return Target(request, OWN_ENTRIES, self.cache)

    def bring(self, **how: Callable[[], None] | Callable[[str], None]) -> None:
        self.push(BASE, **how)  # type: ignore[arg-type]

    def look(self) -> TargetState:
        """As a push does first."""
        target = self.target()
        try:
            return target.inspect(lock=True)
        finally:
            target.lock.release()

    def seen(self) -> tuple[int, int]:
        """What tells that environments have not been moved, nor their prefix."""
        return self.prefix.stat().st_ino, (self.prefix / "envs/mine/lib/file").stat().st_ino

    def is_installed(self) -> bool:
        assert self.seen() == self.inodes
        names = {path.name for path in self.prefix.iterdir()}
        return names == {"LICENSE.txt", "bin", "lib", "conda-meta", "envs", "pkgs"}


@pytest.fixture
def base(tmp_path: Path) -> Base:
    return Base(tmp_path)


@pytest.mark.parametrize("holds", ["nothing", "environments"])
@pytest.mark.parametrize("mode", [0o2770, 0o700, 0o755])
def test_directory_that_was_prepared_keeps_its_mode_and_group(
    holds: str, mode: int, base: Base
) -> None:
    """And the directories for environments and packages that come with the base have the same."""
    if holds == "nothing":
        shutil.rmtree(base.prefix / "envs")
    group = 12345 if os.geteuid() == 0 else max(os.getgroups())
    os.chown(base.prefix, -1, group)
    base.prefix.chmod(mode)
    inode = base.prefix.stat().st_ino
    base.bring()
    brought = ["", "pkgs"] + ["envs"] * (holds == "nothing")
    for status in (os.stat(base.prefix / name) for name in brought):
        assert (stat.S_IMODE(status.st_mode), status.st_gid) == (mode, group)
    assert base.prefix.stat().st_ino == inode


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o2777])
def test_not_everybody_may_write_where_environments_will_be(mode: int, base: Base) -> None:
    shutil.rmtree(base.prefix / "envs")
    base.prefix.chmod(mode)
    base.bring()
    for name in ("envs", "pkgs"):
        assert stat.S_IMODE((base.prefix / name).stat().st_mode) == mode & ~0o002


def test_environments_stay_when_the_base_comes(base: Base) -> None:
    (base.prefix / "lost+found").mkdir()
    assert not base.target().inspect(lock=False).exists
    base.bring()
    (base.prefix / "lost+found").rmdir()
    assert base.is_installed()
    state = base.target().inspect(lock=False)
    assert state.exists
    assert state.record is not None
    assert state.record.revision == state.revision
    assert base.earlier() == []
    assert {path.name for path in base.state.iterdir()} & {"intent.json", "staging.json"} == set()


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_each_step(step: str, base: Base) -> None:
    die_in(lambda die: base.bring(on_step=kill_at(step, die)))
    after = base.look()
    assert after.exists is base.is_installed()
    if not after.exists:
        base.bring()
    assert base.is_installed()
    assert base.earlier() == []


@pytest.mark.parametrize("moved", range(5))
def test_killed_between_two_entries(
    moved: int, base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename_new = filesystem.rename_new

    def with_renames(die: Callable[[], None]) -> None:
        done: list[bytes] = []

        def rename(source: bytes, target: bytes) -> None:
            if len(done) == moved:
                die()
            done.append(source)
            rename_new(source, target)

        monkeypatch.setattr(filesystem, "rename_new", rename)
        base.bring()

    die_in(with_renames)
    assert not base.is_installed()
    assert base.look().recovered == "an interrupted switch was completed"
    assert base.is_installed()


def test_entry_that_appears_before_the_base_is_published_stops_it(base: Base) -> None:
    with pytest.raises(TargetDrifted, match="appeared"):
        base.bring(before_publish=(base.prefix / "lib").touch)
    assert not base.target().inspect(lock=False).exists
    (base.prefix / "lib").unlink()
    base.bring()
    assert base.is_installed()


def test_entry_that_appears_between_two_renames_of_the_base_is_kept(
    base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename_new = filesystem.rename_new

    def rename(source: bytes, target: bytes) -> None:
        if target.endswith(b"/lib"):
            Path(os.fsdecode(target)).write_text("theirs")
        rename_new(source, target)

    monkeypatch.setattr(filesystem, "rename_new", rename)
    with pytest.raises(TargetDrifted, match="appeared"):
        base.bring()
    monkeypatch.undo()
    assert {path.name for path in base.prefix.iterdir()} == {"envs", "lib"}
    (base.prefix / "lib").unlink()
    base.bring()
    assert base.is_installed()


@pytest.mark.parametrize("name", ["note.txt", ".cache/", "lib/"])
def test_anything_else_is_named(name: str, base: Base) -> None:
    path = base.prefix / name
    path.mkdir() if name.endswith("/") else path.write_text("x")
    (found,) = base.look().findings
    assert found.blocking
    assert found.message.endswith(f"has no conda, but contains other entries: {name.rstrip('/')}")


def test_entry_that_appears_after_a_crash_is_named_until_it_is_gone(
    base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Named until it is gone; then it goes on."""
    rename_new = filesystem.rename_new

    def with_renames(die: Callable[[], None]) -> None:
        def rename(source: bytes, target: bytes) -> None:
            if target.endswith(b"/lib"):
                die()
            rename_new(source, target)

        monkeypatch.setattr(filesystem, "rename_new", rename)
        base.bring()

    die_in(with_renames)
    (base.prefix / "lib").write_text("theirs")
    with pytest.raises(PreflightRefused, match="only in part"):
        base.look()
    (base.prefix / "lib").unlink()
    assert base.look().exists
    assert base.is_installed()


def test_mount_inside_the_prefix_stays_when_the_base_comes(base: Base, tmp_path: Path) -> None:
    (tmp_path / "disk/theirs").mkdir(parents=True)

    def act() -> None:
        bind(tmp_path / "disk", os.fsencode(base.prefix / "envs"))
        base.bring()
        assert (base.prefix / "envs/theirs").is_dir()
        assert base.look().exists

    in_a_namespace(act)


def test_a_prefix_that_is_a_mount_point_is_told(base: Base, tmp_path: Path) -> None:
    """Unless conda is there already: then nothing has to be switched."""
    disk = tmp_path / "disk"
    (disk / "lost+found").mkdir(parents=True)

    def act() -> None:
        bind(disk, os.fsencode(base.prefix))
        (found,) = base.look().findings
        assert (found.kind, found.blocking) == ("mounted-prefix", True)
        (disk / "conda-meta").mkdir()
        (disk / "conda-meta/python-3.13.1-0.json").touch()
        assert base.look().findings == ()

    in_a_namespace(act)


@pytest.mark.parametrize("holds", ["environments", "nothing", "conda"])
def test_a_prefix_behind_a_link(holds: str, base: Base, tmp_path: Path) -> None:
    """Of the user's own, to another disk perhaps: the base goes where it leads."""
    real = base.prefix.rename(tmp_path / "elsewhere")
    base.prefix.symlink_to(real)
    if holds == "nothing":
        shutil.rmtree(real / "envs")
    elif holds == "conda":
        (real / "conda-meta").mkdir()
        (real / "conda-meta/python-3.13.1-0.json").touch()
        assert base.look().exists
        return
    base.bring()
    assert base.look().exists
    assert base.prefix.is_symlink()
    assert (real / "bin/python").is_file()


def test_hint_gives_no_existing_directory_to_this_user(
    base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is there may be everybody's; one that is not may become this user's."""
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(PreflightRefused, match="is not writable by") as refused:
        base.look()
    assert refused.value.hint.startswith("set `prefix:` of ")
    with pytest.raises(PreflightRefused, match=r"does not exist, and .* cannot") as refused:
        base.target_at(tmp_path / "new/prefix").inspect(lock=False)
    assert refused.value.hint.endswith(f" {tmp_path}/new")
