"""Hints on how to make unreadable paths readable."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from envsync.agent.trees.unreadable_paths import how_to_read_directory, how_to_read_files


@pytest.fixture
def top_fd(tmp_path: Path) -> int:
    (tmp_path / "a file").touch()
    return os.open(tmp_path, os.O_RDONLY)


def test_own_paths_are_named_in_a_command_to_copy(top_fd: int, tmp_path: Path) -> None:
    assert how_to_read_files(top_fd, [b"a file"]) == f"chmod -R u+rX '{tmp_path}/a file'"
    assert how_to_read_directory(top_fd, b"") == f"chmod -R u+rX {tmp_path}"
    os.close(top_fd)


@pytest.mark.parametrize("missing", ["proc", "file"])
def test_path_that_cannot_be_looked_at_gets_a_general_hint(
    top_fd: int, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: bytes) -> bytes:
        raise FileNotFoundError

    if missing == "proc":
        monkeypatch.setattr(os, "readlink", refuse)
    path = b"a file" if missing == "proc" else b"gone"
    assert how_to_read_files(top_fd, [path]) == "make it readable for this user"
    os.close(top_fd)
