"""What is remembered of the links that lead out of an environment."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envsync.agent.source import softlinks

REVISION = "a" * 64
PATHS = st.binary(min_size=1, max_size=20).map(lambda path: path.replace(b"\0", b"x"))
LEADING = st.lists(st.tuples(PATHS.map(lambda path: b"l" + path), PATHS), max_size=4)


@given(LEADING, st.integers(0, 300))
def test_a_note_is_whole_or_none(leading: list[tuple[bytes, bytes]], cut: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        note = Path(directory, "note")
        softlinks._write(str(note), REVISION, leading)
        assert softlinks._read(str(note), REVISION) == leading
        assert softlinks._read(str(note), "b" * 64) is None
        data = note.read_bytes()
        note.write_bytes(data[:cut])
        assert softlinks._read(str(note), REVISION) == (leading if cut >= len(data) else None)
        note.unlink()
        assert softlinks._read(str(note), REVISION) is None


def test_set_id_bit_of_another_users_file_is_not_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A package cache may be everybody's."""
    path = tmp_path / "tool"
    path.touch()
    path.chmod(0o4755)
    assert softlinks._file(b"tool", os.fsencode(path)).mode == 0o4755
    user_id = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: user_id + 1)
    assert softlinks._file(b"tool", os.fsencode(path)).mode == 0o755
