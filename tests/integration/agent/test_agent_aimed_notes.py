"""What a member of the group writes into the state of a shared environment aims at nothing else."""

from __future__ import annotations

import contextlib
import grp
import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from envsync.agent.places.layout import REMOVAL, Layout, base_layout, environment_layout
from envsync.agent.places.staging_note import note_staging
from envsync.agent.places.state_files import read_checked, write_checked, write_json
from envsync.agent.staging import scratch_files, side_place, writer_guard
from envsync.agent.staging.choice import NOTHING, StagingChoice
from envsync.agent.staging.side_build import SideBuild
from envsync.agent.target import switches
from envsync.agent.target.gc import sweep
from envsync.agent.target.gc_survey import Rules
from envsync.errors import EnvsyncError, PreflightRefused
from envsync.tree.environment_name import BASE
from envsync.tree.sharing import WRITE, Share
from tests.support.pushes import Server, environment
from tests.support.trees import file

ONE = environment({b"x": file(b"1")})


@pytest.fixture
def server(tmp_path: Path) -> Server:
    server = Server(tmp_path)
    server.push(ONE)
    return server


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A directory of the publisher's own that nothing here is about."""
    directory = tmp_path / ".victims"
    directory.mkdir(mode=0o700)
    (directory / "key").write_text("mine")
    return directory


def whole(victim: Path) -> bool:
    is_private = stat.S_IMODE(victim.stat().st_mode) == 0o700
    return is_private and [(p.name, p.read_text()) for p in victim.iterdir()] == [("key", "mine")]


# --- a build ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        *["", ".", "..", "./", "..\0", "\ud800", ".1\ud800", ".123/", ".123\n", "/.123", "a/.1"],
        *["x", "xy", ".x", ".xyz", ".1x3", ".١٢٣", ".envsync", "x/..", "../../.victims"],
        # as long as a build's in the prefix: what a home directory or a prefix may have
        *[".cache", ".config", ".condarc", "envs/x"],
    ],
)
@pytest.mark.parametrize("environment", ["x", "xy", "xyz", "name", "8letters"])
def test_a_note_of_what_is_no_build_is_none(environment: str, name: str, tmp_path: Path) -> None:
    (tmp_path / "envs").mkdir()
    layout = environment_layout(str(tmp_path), environment)
    layout.create()
    write_json(layout.file(side_place.NOTE), {"name": name})
    assert side_place.built_at(layout) is None


def test_the_next_clean_up_leaves_the_directory_of_all_environments(tmp_path: Path) -> None:
    server = Server(tmp_path, "x")
    server.push(ONE)
    envs = os.path.dirname(os.fsdecode(server.live))
    layout = server.target().layout
    for note in ({"name": "."}, {"path": envs + "/."}):
        write_json(layout.file(side_place.NOTE), note)
        scratch_files.discard(layout)
        assert os.path.lexists(server.live)


def test_the_next_push_removes_a_build_and_nothing_else(server: Server, victim: Path) -> None:
    layout = server.target().layout
    build = Path(os.fsdecode(SideBuild(layout).path))
    build.mkdir()
    for name in (build.name, os.path.relpath(victim, build.parent)):
        write_json(layout.file(side_place.NOTE), {"name": name})
        scratch_files.discard(layout)
        assert not build.exists()
        assert not os.path.lexists(layout.file(side_place.NOTE))
    assert whole(victim)


def test_a_build_is_known_by_another_name_of_the_prefix(server: Server, tmp_path: Path) -> None:
    (tmp_path / "another").symlink_to(server.prefix)
    path = SideBuild(server.target().layout).path
    layout = environment_layout(str(tmp_path / "another"), server.name)
    write_json(layout.file(side_place.NOTE), {"name": os.fsdecode(os.path.basename(path))})
    found = side_place.built_at(layout)
    assert found is not None
    assert os.path.realpath(found) == os.path.realpath(path)


def test_conda_itself_is_built_nowhere(tmp_path: Path) -> None:
    layout = base_layout(str(tmp_path / "home/conda"))
    os.makedirs(layout.path)
    layout.create()
    assert layout.name == BASE
    write_json(layout.file(side_place.NOTE), {"name": ".1234"})
    assert side_place.built_at(layout) is None


# --- names of trees -----------------------------------------------------------------------


@pytest.mark.parametrize("token", ["", ".", "..", "../x", "a/b", "/x", "a\0", "\ud800"])
def test_no_tree_is_named_outside(token: str, server: Server) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - of whatever kind: a note with it is damaged
        server.target().layout.tree(token)


def test_a_removal_takes_nothing_from_elsewhere(server: Server, victim: Path) -> None:
    target = server.target()

    def die(step: str) -> None:
        if step == "switched":
            raise KeyboardInterrupt

    target.on_step = die
    target.inspect(lock=True)
    with pytest.raises(KeyboardInterrupt):
        switches.remove(target, "alice", overwrite=False)
    path = target.layout.file(REMOVAL)
    note = read_checked(path)
    aimed = os.path.relpath(victim, os.fsdecode(target.layout.trees))
    write_checked(path, {**note, "token": aimed})
    target.lock.release()
    again = server.target()
    again.inspect(lock=True)
    again.lock.release()
    assert whole(victim)
    assert not os.path.lexists(server.live)


# --- links where files of envsync's own are -------------------------------------------------


def _push(server: Server) -> None:
    server.push(environment({b"x": file(b"2")}))


def _push_shared(server: Server) -> None:
    server.share = Share(grp.getgrgid(os.getegid()).gr_name, WRITE)
    _push(server)


def _collect(server: Server) -> None:
    sweep(server.target(), Rules(0, True, False, time.time()))


@pytest.mark.parametrize("command", [_push, _push_shared, _collect])
@pytest.mark.parametrize("name", ["..", ".", "generations", "trees"])
@pytest.mark.parametrize("is_seen", [True, False])
def test_directory_behind_a_link_is_neither_opened_nor_emptied(
    is_seen: bool,
    name: str,
    command: Callable[[Server], None],
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In a group's directory, a member can put a link in the place of another directory.

    One that is not seen was put there after the look.
    """
    home = tmp_path / "home"
    (home / "thesis").mkdir(parents=True, mode=0o700)
    (home / "thesis/chapter").write_text("mine")
    (home / "key").write_text("mine")
    before = {path: path.stat().st_mode for path in (home, *home.rglob("*"))}
    os.chmod(server.prefix / "envs", 0o2775)
    planted = Path(os.path.normpath(server.state / name))
    planted.rename(tmp_path / "moved")
    planted.symlink_to(home)
    if is_seen:
        with pytest.raises(PreflightRefused, match="there is a link, but must be a directory"):
            command(server)
    else:
        monkeypatch.setattr(Layout, "require_own_directories", lambda _: None)
        with contextlib.suppress(OSError, EnvsyncError):
            command(server)
    assert {path: path.stat().st_mode for path in before} == before


@pytest.mark.parametrize("name", ["lock", "history.jsonl"])
def test_no_file_elsewhere_is_written_to(name: str, server: Server, victim: Path) -> None:
    (server.state / name).unlink()
    (server.state / name).symlink_to(victim / "key")
    with pytest.raises(PreflightRefused, match="is a link"):
        server.push(environment({b"x": file(b"2")}))
    assert whole(victim)


def test_nothing_is_built_behind_a_link(server: Server, victim: Path) -> None:
    target = server.target()
    link = server.state / "trees/abcd"
    link.symlink_to(victim)
    note_staging(target.layout, "abcd", link.lstat().st_ino)
    choice = StagingChoice(target.environment, 1)
    assert choice.candidate(None) == NOTHING
    assert whole(victim)


def test_a_bundle_is_not_taken_from_behind_a_link(server: Server, victim: Path) -> None:
    state = os.fsencode(server.state)
    Path(os.fsdecode(scratch_files.bundle(state, "old"))).symlink_to(victim / "key")
    size_bytes, _ = scratch_files.adopt_bundle(state, "new")
    assert size_bytes == 0
    assert scratch_files.bundles(state) == []
    assert whole(victim)


@pytest.mark.parametrize("name", ["rsync-partial", "rsync-temporary"])
def test_rsync_writes_nowhere_else(name: str, server: Server, victim: Path) -> None:
    state = server.state
    (state / "writers").touch()
    (state / "trees/abcd").mkdir()
    write_json(os.fsencode(state / "staging.json"), {"token": "abcd", "inode": 1})
    (state / name).symlink_to(victim)
    state.chmod(0o2770)
    guard = [sys.executable, writer_guard.__file__, os.fsencode(state).hex(), "abcd"]
    subprocess.run([*guard, b"/bin/true".hex()], check=True)
    assert not (state / name).is_symlink()
    assert stat.S_IMODE((state / name).stat().st_mode) == 0o2770
    assert whole(victim)
    (state / name).rmdir()
    (state / name).symlink_to(victim)
    scratch_files.discard(server.target().layout)
    assert whole(victim)
    assert not os.path.lexists(state / name)
