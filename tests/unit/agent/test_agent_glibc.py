"""The newest glibc that an environment needs: from its files, and from what is known of them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from envsync.agent.source.elf_files import NEEDS_NO_GLIBC, ElfFiles, newest_glibc
from envsync.agent.trees.tree_caches import UNUSED_SECONDS, cache_start, sweep_caches
from envsync.conda import elf
from tests.support import disk

Ask = Callable[[], tuple[bytes, elf.Version]]


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return Path(f"{cache_start(str(tmp_path / 'cache'), (1, 2))}91bc")


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[elf.Version]:
    """What was read of files, in order: each has as many as it needs."""
    found: list[elf.Version] = []
    needed_glibc = elf.needed_glibc

    def noted(read: elf.ReadAt) -> elf.Version:
        found.append(needed_glibc(read))
        return found[-1]

    monkeypatch.setattr(elf, "needed_glibc", noted)
    return found


@pytest.fixture
def ask(top: bytes, cache: Path) -> Ask:
    shutil.copy2("/bin/ls", os.path.join(os.fsdecode(top), "program"))

    return lambda: newest_glibc(files(top, cache), with_packages=True)


def files(top: bytes, cache: Path) -> ElfFiles:
    """All of the tree's."""
    manifest = disk.uncached().snapshot(top).manifest()
    start = str(cache).removesuffix("91bc")
    return ElfFiles(manifest, manifest.directories, lambda path: os.path.join(top, path), start)


def test_file_that_was_read_for_its_glibc_is_not_read_again(
    ask: Ask, top: bytes, read: list[elf.Version]
) -> None:
    first = ask()
    assert first == (b"program", max(read))
    assert first[1] >= (2, 2)
    seen = len(read)
    os.utime(os.path.join(top, b"program"))
    assert ask() == first
    assert len(read) == seen
    # Another content is read, and that one alone.
    os.unlink(os.path.join(top, b"program"))
    Path(os.fsdecode(top), "other.so").write_bytes(b"\x7fELF" + bytes(200))
    assert ask() == NEEDS_NO_GLIBC
    assert read[seen:] == [()]


def test_without_packages_an_older_need_of_python_itself_is_found(
    top: bytes, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(elf, "needed_glibc", lambda read: tuple(read(100, 2)))
    needs = {b"lib/libpython3.so": (2, 28), b"lib/python3.12/site-packages/x/x.so": (2, 35)}
    for path, version in needs.items():
        file = Path(os.fsdecode(os.path.join(top, path)))
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(bytes(100) + bytes(version))
    package, python = max(needs), min(needs)
    assert newest_glibc(files(top, cache), with_packages=True) == (package, needs[package])
    assert newest_glibc(files(top, cache), with_packages=False) == (python, needs[python])


def test_a_damaged_file_is_none(ask: Ask, cache: Path, read: list[elf.Version]) -> None:
    first, seen = ask(), len(read)
    cache.write_bytes(cache.read_bytes()[:-1] + b"\xff")
    assert ask() == first
    assert len(read) == 2 * seen


def test_a_file_that_is_another_one_by_now_is_not_remembered(
    top: bytes, cache: Path, read: list[elf.Version]
) -> None:
    path = Path(os.fsdecode(top), "other.so")
    path.write_bytes(b"none".ljust(200))
    as_it_was = files(top, cache)
    shutil.copy2("/bin/ls", path)
    for _ in range(2):
        newest_glibc(as_it_was, with_packages=True)
    assert sum(map(bool, read)) == 2


def test_glibc_cache_is_swept_with_the_other_caches_of_its_tree(cache: Path) -> None:
    cache.parent.mkdir()
    cache.write_bytes(b"")
    later = cache.stat().st_mtime + 2 * UNUSED_SECONDS
    for alive, files in (({(1, 2)}, 0), (set(), 1)):
        assert sweep_caches(str(cache.parent), alive, later, dry_run=False) == (files, 0)
    assert cache_start(None, (1, 2)) is None
