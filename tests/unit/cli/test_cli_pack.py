"""What `envsync pack` says, and when."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from envsync.errors import SourceRefused
from tests.support.command_line import Envsync
from tests.support.documented_json import check_document


def test_it_is_told_what_is_packed_before_that_takes_its_time(
    envsync: Envsync, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "conda/envs/myenv/conda-meta").mkdir(parents=True)
    (tmp_path / "conda/envs/myenv/conda-meta/history").touch()
    (tmp_path / "envsync.yaml").write_text(
        f"prefix: {tmp_path / 'conda'}\nservers: {{here: {{}}}}\n"
    )

    def pack(_open: object, _write: Callable[..., object]) -> tuple[str, ...]:
        if fails:
            raise SourceRefused("it changes", hint="wait")
        (tmp_path / "m.tar").write_bytes(b"12345")
        return ()

    monkeypatch.setattr("envsync.push.packing.pack_archive.pack_unchanged", pack)
    for fails in (True, False):
        told = envsync("pack", "myenv", "-o", "m.tar", ENVSYNC_SELF="here")
        first, *others = told.out.splitlines()
        assert first == "myenv -> m.tar ...", told
        assert [line.startswith("myenv -> m.tar: 5 B, ") for line in others] == [True] * (not fails)
    document = check_document(envsync("pack", "myenv", "-o", "m.tar", "--json").out)
    assert document["result"]["size_bytes"] == 5
