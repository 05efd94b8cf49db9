"""What is removed of that which killed processes had unpacked."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from envsync.agent.target import unpacked_remains
from envsync.agent.target.unpacked_remains import sweep_unpacked
from tests.support.ordinary_user import NOBODY


def unpacked(place: Path) -> Path:
    """Make in `place` what an unpacking leaves that was killed."""
    (place / "envs/e").mkdir(parents=True)
    (place / "envs/e/file").write_bytes(b"x" * 100)
    (place / "lock").touch()
    place.chmod(0o700)
    return place


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """The directory in which each name that is unpacked has its own."""
    directory = tmp_path / "cache/envsync/unpacked"
    directory.mkdir(parents=True)
    directory.chmod(0o755)
    return directory


def test_a_link_of_another_users_leads_to_nothing_that_is_removed(
    shared: Path, tmp_path: Path
) -> None:
    state = unpacked(tmp_path / "state")
    (shared / "evil").symlink_to(state)
    assert sweep_unpacked(str(shared), dry_run=False) == (0, 0)
    assert (state / "envs/e/file").exists()


@pytest.mark.parametrize("what", ["a link", "open to others", "somebody else's"])
def test_nothing_is_removed_in_a_directory_that_another_user_can_write(
    what: str, shared: Path, tmp_path: Path
) -> None:
    place = unpacked(shared / "e")
    if what == "a link":
        shared.rename(tmp_path / "elsewhere")
        shared.symlink_to(tmp_path / "elsewhere")
        shared.parent.chmod(0o777)
    elif what == "open to others":
        shared.chmod(0o777)
    elif os.geteuid():
        pytest.skip("only root can make a directory of another user's")
    else:
        os.chown(place, NOBODY, -1)
    assert sweep_unpacked(str(shared), dry_run=False) == (0, 0)
    assert (place / "envs/e/file").exists()


def test_only_what_unpacking_makes_is_removed(shared: Path) -> None:
    place = unpacked(shared / "e")
    (place / "generations").mkdir()
    (place / "going").mkdir()
    assert sweep_unpacked(str(shared), dry_run=False) == (2, 100)
    assert sorted(os.listdir(place)) == ["generations", "lock"]


def test_a_dry_run_measures_without_the_lock(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = unpacked(shared / "e")

    def measure(path: bytes) -> int:
        with (place / "lock").open("r+b") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return 7

    monkeypatch.setattr(unpacked_remains, "measure", measure)
    assert sweep_unpacked(str(shared), dry_run=True) == (1, 7)
