"""What a tree becomes at another place, whatever it became at others before."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from envsync.agent.source.source import Source
from envsync.agent.source.version import SourceVersion
from tests.unit.agent import disk
from tests.unit.agent.pushes import NAME, environment
from tests.unit.tree.trees import file

LONGER = f"/srv/{'x' * 200}/envs/{NAME}"
SHORTER = f"/s/envs/{NAME}"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """Conda's, with an environment that has a binary which names only the base itself."""
    base = tmp_path / "conda"
    top = base / "envs" / NAME
    top.mkdir(parents=True)
    binary = b"\0" + os.fsencode(base) + b"/pkgs\0"
    disk.build(os.fsencode(top), environment({b"lib/names-base.so": file(binary)}))
    return base


def inspected(base: Path) -> SourceVersion:
    source = Source(str(base), NAME, (), str(base.parent / "cache"), None)
    source.inspect()
    return source.version


def test_a_file_without_room_at_one_place_is_rewritten_for_a_shorter_one(base: Path) -> None:
    left = inspected(base).relocation_facts(LONGER).left
    assert left == ("lib/names-base.so",)
    assert inspected(base).rewritten(SHORTER) == {b"lib/names-base.so"}
    revision = inspected(base).relocation_facts(SHORTER).revision
    # Another version, and both places once more: each goes by what is known of it.
    added = base / "envs" / NAME / "lib/added"
    added.write_text("x")
    assert inspected(base).relocation_facts(LONGER).left == ()
    assert inspected(base).rewritten(SHORTER) == {b"lib/names-base.so"}
    added.unlink()
    assert inspected(base).relocation_facts(SHORTER).revision == revision
