"""Trees that change while they are hashed, or so soon after that no stamp tells."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from envsync.agent.trees import file_hash, hashing
from envsync.agent.trees.stable_hashing import ATTEMPTS
from envsync.agent.trees.trees import Trees
from envsync.errors import SourceRefused
from tests.support import disk
from tests.support.changes import CHANGES, TREE, TREE_BYTES, Change
from tests.support.disk import truth
from tests.support.ordinary_user import ordinary_user


def once(change: Callable[[], object]) -> Callable[[int], None]:
    """A progress callback: something happens while the first file is being hashed."""
    calls: list[int] = []

    def progress(size_bytes: int) -> None:
        calls.append(size_bytes)
        if len(calls) == 1:
            change()

    return progress


@pytest.mark.parametrize("glance", [False, True])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_change_while_hashing_is_found(
    change: Change, glance: bool, looks: Trees, top: bytes
) -> None:
    found = looks.snapshot(top, glance=glance, progress=once(lambda: change(top)))
    assert found.manifest() == truth(top)
    assert looks.snapshot(top).manifest() == truth(top), "and nothing wrong is remembered"


def test_a_directory_that_was_away_for_a_moment(
    looks: Trees, top: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its files could not be read, or others were in their place; their status says nothing."""
    decoy = with_decoy(top)
    hash_file, calls = file_hash.hash_file, iter([b"lib", b"bin"])

    def meddled(top_fd: int, path: bytes, *rest: int) -> bytes | None:
        away = next((name for name in calls), b"")
        if away:
            os.rename(top + b"/" + away, top + b"-away")
            os.rename(decoy + b"/" + away, top + b"/" + away)
        try:
            return hash_file(top_fd, b"lib/m.py" if away == b"lib" else path, *rest)
        finally:
            if away:
                os.rename(top + b"/" + away, decoy + b"/" + away)
                os.rename(top + b"-away", top + b"/" + away)

    monkeypatch.setattr(hashing, "hash_file", meddled)
    found = looks.snapshot(top)
    monkeypatch.undo()
    assert found.manifest() == truth(top)
    assert looks.snapshot(top).manifest() == truth(top)


def with_decoy(top: bytes) -> bytes:
    """Another directory with files of the same names and sizes."""
    decoy = top + b"-decoy"
    os.mkdir(decoy)
    disk.build(decoy, {path: node for path, node in TREE.items() if path != b"empty"})
    for path, node in TREE.items():
        if node.kind == 1:
            disk.shift_content(decoy + b"/" + path)
    return decoy


def test_a_link_that_was_another_for_a_moment(
    looks: Trees, top: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    readlink, calls = os.readlink, iter(["first"])

    def meddled(path: bytes, *, dir_fd: int | None = None) -> bytes:
        if next(calls, ""):
            os.rename(top + b"/bin", top + b"/away")
            os.rename(top + b"/away", top + b"/bin")
            return b"another"
        return readlink(path, dir_fd=dir_fd)

    monkeypatch.setattr(os, "readlink", meddled)
    found = looks.snapshot(top)
    monkeypatch.undo()
    assert found.manifest() == truth(top)


@pytest.mark.parametrize("change", ["vanished", "replaced"])
def test_file_that_changed_before_it_was_read_is_looked_at_again(
    change: str, looks: Trees, top: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also without a second pass: it is not taken for a file that may not be read."""
    path = top + b"/lib/m.py"

    def happen() -> None:
        os.rename(path, top + b"/lib/away")
        if change == "replaced":
            disk.write(path, b"another")

    monkeypatch.setattr(hashing, "hash_file", just_before(happen, times=1))
    found, hashed = looks.unconfirmed(top)
    assert hashed is not None
    assert found.manifest() == truth(top)


def test_tree_whose_files_go_on_vanishing_is_refused(
    looks: Trees, top: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, numbers = top + b"/lib/m.py", itertools.count()

    def happen() -> None:
        os.rename(path, top + b"/%d" % next(numbers))
        disk.write(path, b"another")

    monkeypatch.setattr(hashing, "hash_file", just_before(happen, times=ATTEMPTS))
    with pytest.raises(SourceRefused, match="changing"):
        looks.unconfirmed(top)


def just_before(happen: Callable[[], object], *, times: int) -> Callable[..., bytes | None]:
    """A `hash_file` for which something happens just before `lib/m.py` is hashed."""
    left = iter(range(times))

    def meddled(top_fd: int, path: bytes, *rest: int) -> bytes | None:
        if path == b"lib/m.py" and next(left, None) is not None:
            happen()
        return file_hash.hash_file(top_fd, path, *rest)

    return meddled


def test_tree_that_goes_on_changing_is_refused(looks: Trees, top: bytes) -> None:
    changes: list[int] = []

    def progress(_: int) -> None:
        changes.append(len(changes))
        with open(top + b"/lib/m.py", "ab") as file:
            file.write(b"x")

    with pytest.raises(SourceRefused, match="changing") as refused:
        looks.snapshot(top, progress=progress)
    assert refused.value.hint
    assert len(changes) >= ATTEMPTS
    assert looks.snapshot(top).manifest() == truth(top)


def test_files_that_may_not_be_read_are_named(tmp_path: Path, top: bytes) -> None:
    os.chmod(top + b"/lib/m.py", 0)
    os.chmod(tmp_path, 0o755)
    # The directories above are not this test's alone: it goes past them.
    fd = os.open(tmp_path, os.O_RDONLY)
    with ordinary_user(), pytest.raises(SourceRefused) as refused:
        disk.uncached().snapshot(b"/proc/self/fd/%d/" % fd + os.path.basename(top))
    os.close(fd)
    assert refused.value.details == ("lib/m.py",)
    # Nobody's user changes the modes of another's files.
    assert ("belongs to" in refused.value.hint) is (os.geteuid() == 0)
    assert "chmod" in refused.value.hint


def test_a_change_within_one_tick_is_found(looks: Trees, top: bytes) -> None:
    for number in range(5):
        with open(top + b"/lib/m.py", "wb") as file:
            file.write(b"%06d" % number)
        found = looks.snapshot(top)
        disk.shift_content(top + b"/lib/m.py")
        assert looks.snapshot(top).revision != found.revision


def test_a_stamp_from_the_future_is_not_trusted(
    looks: Trees, top: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server whose clock is ahead, or a clock set back: hashed again until it settles."""
    monkeypatch.setattr(time, "time_ns", lambda: 10**18)
    assert looks.snapshot(top).hashed_bytes == TREE_BYTES
    assert looks.snapshot(top).hashed_bytes == TREE_BYTES
    monkeypatch.undo()
    assert looks.snapshot(top).manifest() == truth(top)
