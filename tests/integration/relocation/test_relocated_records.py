"""What pip's and conda's records say of a real environment's files is true after each push."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from envsync.agent.trees import hashing
from envsync.push.packing.pack_archive import write_archive
from tests.conda.template import CondaPrefix, Template
from tests.integration.relocation.local_push import push
from tests.integration.relocation.odd_prefixes import add_odd_prefixes, wrong_hashes


@pytest.fixture
def top(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A short path: the environment is unpacked below it, and conda's binaries have room there."""
    path = tmp_path_factory.mktemp("re")
    yield path
    shutil.rmtree(path)


@pytest.fixture
def source(conda_template: Template, top: Path) -> CondaPrefix:
    prefix = conda_template.copy(top / ("a" * 20))
    add_odd_prefixes(prefix)
    return prefix


@pytest.fixture(autouse=True)
def searched_while_hashed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in an environment of the usual size: by processes, with a list of what has no prefix."""
    monkeypatch.setattr(hashing, "processors", lambda: 2)
    monkeypatch.setattr(hashing, "PARALLEL_FILES_MIN", 1)


@pytest.fixture(autouse=True)
def cold(top: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache, in which nothing is known of any source."""
    for name in ("CACHE", "STATE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(top / name.lower()))
    return top / "cache"


@pytest.mark.timeout(120)
def test_records_are_true_after_a_first_push_and_the_cache_changes_nothing(
    source: CondaPrefix, top: Path, cold: Path
) -> None:
    there = top / "b"
    first = push(source.path, there).record
    assert first is not None
    assert wrong_hashes(source.environment()) == wrong_hashes(there / "envs/myenv") == []
    assert push(source.path, there).outcome == "in-step"
    shutil.rmtree(cold)
    assert push(source.path, there).outcome == "in-step"
    other = top / "c"
    again = push(source.path, other).record
    assert again is not None
    assert again.source_revision == first.source_revision
    assert wrong_hashes(other / "envs/myenv") == []


@pytest.mark.timeout(120)
def test_records_are_true_after_unpacking(source: CondaPrefix, top: Path) -> None:
    """At the path where it was packed, and at another; also when that was searched before."""
    environment, archive = source.environment(), top / "myenv.tar"
    # Of an editable install there would be no archive.
    next(environment.glob("lib/python3.*/site-packages/greeter-*/direct_url.json")).unlink()
    write_archive(environment, archive, "tar", force=False)
    source.path.rename(top / "away")
    for there in (source.path, top / "b"):
        assert push(source.path, there, archive=str(archive)).outcome == "pushed"
        assert wrong_hashes(there / "envs/myenv") == []
