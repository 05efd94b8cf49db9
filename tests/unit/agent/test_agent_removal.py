"""Removing a tree, also one in which somebody else is at work."""

from __future__ import annotations

import os
import resource
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from envsync.agent.trees.directory_read import opened_directory
from envsync.agent.trees.removal import remove_tree
from tests.support.ordinary_user import home_of_ordinary_user

DEPTH, NAME = 300, "d" * 20
"""As a path, longer than the kernel takes."""


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    directory = tmp_path / "outside"
    (directory / "c").mkdir(parents=True)
    (directory / "c/key").write_text("mine")
    (directory / "c").chmod(0o755)
    return directory


def require_whole(outside: Path) -> None:
    assert stat.S_IMODE((outside / "c").stat().st_mode) == 0o755
    assert (outside / "c/key").read_text() == "mine"


def to_link(tmp_path: Path, outside: Path) -> None:
    (tmp_path / "tree/a/b").rename(tmp_path / "tree/a/moved")
    (tmp_path / "tree/a/b").symlink_to(outside)


def to_elsewhere(tmp_path: Path, outside: Path) -> None:
    (tmp_path / "tree/a/b").rename(outside / "b")


@pytest.mark.parametrize("swap", [to_link, to_elsewhere])
def test_a_directory_that_is_swapped_meanwhile_leads_nowhere(
    tmp_path: Path,
    outside: Path,
    swap: Callable[[Path, Path], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tree = tmp_path / "tree"
    (tree / "a/b/c").mkdir(parents=True)
    (tree / "a/b/trigger").touch()
    (tree / "a/b/c/key").touch()
    unlink = os.unlink

    def unlink_and_swap(path: bytes, *, dir_fd: int | None = None) -> None:
        unlink(path, dir_fd=dir_fd)
        if path == b"trigger":
            swap(tmp_path, outside)

    monkeypatch.setattr(os, "unlink", unlink_and_swap)
    with pytest.raises(OSError, match=r"moved|Not a directory"):
        remove_tree(os.fsencode(tree))
    require_whole(outside)
    remove_tree(os.fsencode(tree))
    assert not tree.exists()
    require_whole(outside)


def test_no_link_is_followed_on_the_way_to_a_tree(tmp_path: Path, outside: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "a").symlink_to(outside)
    with opened_directory(os.fsencode(tree)) as fd, pytest.raises(NotADirectoryError):
        remove_tree(b"a/c", fd)
    require_whole(outside)


@pytest.fixture
def few_open_files() -> Iterator[None]:
    """Allow a few open files besides those that the tests' process has."""
    highest = max(int(fd) for fd in os.listdir("/proc/self/fd"))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 20, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_tree_may_be_deeper_than_a_path_is_long(tmp_path: Path, few_open_files: None) -> None:
    (tmp_path / "tree").mkdir()
    fd = os.open(tmp_path / "tree", os.O_RDONLY)
    for _ in range(DEPTH):
        os.mkdir(NAME, dir_fd=fd)
        below = os.open(NAME, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    remove_tree(os.fsencode(tmp_path / "tree"))
    assert not (tmp_path / "tree").exists()


def test_a_directory_that_its_owner_may_not_read_goes_too() -> None:
    with home_of_ordinary_user() as home:
        tree = home / "tree"
        (tree / "a/b").mkdir(parents=True)
        (tree / "a/b/key").touch()
        for path in (tree / "a/b", tree / "a", tree):
            path.chmod(0)
        with opened_directory(os.fsencode(home)) as fd:
            remove_tree(b"tree", fd)
        assert not tree.exists()
