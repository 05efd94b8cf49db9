"""A source as pushes see it: what is known of it without waiting."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from envsync.agent.trees.stable_hashing import StableHashing
from envsync.agent.wire.figures import HASHED_BYTES
from envsync.errors import EnvsyncError, SourceRefused
from envsync.push.ends.end import LocalEnd
from envsync.push.ends.source_look import SourceLook
from envsync.push.packing.packed_source import ArchiveFile, PackedLook
from envsync.push.request.method import PACK
from envsync.push.request.settings import PushSettings
from tests.support import disk
from tests.support.pushes import NAME, environment
from tests.support.trees import file


@pytest.fixture
def prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With one environment in it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    place = tmp_path / "prefix/envs" / NAME
    place.mkdir(parents=True)
    disk.build(os.fsencode(place), environment({b"lib/m.py": file(b"12345")}))
    return tmp_path / "prefix"


@pytest.fixture
def end() -> Iterator[LocalEnd]:
    local = LocalEnd("here")
    yield local
    local.close()


def test_known_state_is_returned_while_another_question_is_asked(
    prefix: Path, end: LocalEnd
) -> None:
    look = SourceLook(end, str(prefix), NAME, ())
    found = look.state()
    with look._lock:
        assert look.state() is found


def test_source_is_changed_where_something_had_to_be_hashed(prefix: Path, end: LocalEnd) -> None:
    look = SourceLook(end, str(prefix), NAME, ())
    assert not look.is_changed, "nobody knows yet"
    state = look.state()
    assert look.is_changed
    assert look.confirmed(state)
    again = SourceLook(end, str(prefix), NAME, ())
    again.state()
    assert not again.is_changed


def test_reading_it_all_again_reports_how_far_it_is(prefix: Path, end: LocalEnd) -> None:
    look = SourceLook(end, str(prefix), NAME, ())
    look.state()
    figures: set[str] = set()
    assert not look.changed(lambda figure, _: figures.add(figure))
    assert figures == {HASHED_BYTES}


def test_a_look_that_failed_leaves_nothing_to_be_outlined(
    prefix: Path, end: LocalEnd, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> NoReturn:
        raise SourceRefused("it goes on changing")

    monkeypatch.setattr(StableHashing, "hash", refuse)
    look = SourceLook(end, str(prefix), NAME, ())
    with pytest.raises(SourceRefused):
        look.state()
    assert end.service.source.outline() is None


def test_error_of_unpacking_names_the_server_of_the_source(prefix: Path, end: LocalEnd) -> None:
    """And not of the target that asks."""
    (prefix / "archive").write_text("of somebody")
    settings = PushSettings(NAME, end.server, "alice@here", PACK)
    look = PackedLook(end, settings, ArchiveFile(prefix / "archive"), origin=None)
    with contextlib.closing(look), pytest.raises(SourceRefused) as raised:
        look.state()
    assert raised.value.server == end.server


def test_nothing_is_unpacked_once_the_look_is_closed(prefix: Path, end: LocalEnd) -> None:
    """As by a push that is still under way when Ctrl-C ends the command."""
    (prefix / "archive").write_text("of somebody")
    settings = PushSettings(NAME, end.server, "alice@here", PACK)
    look = PackedLook(end, settings, ArchiveFile(prefix / "archive"), origin=None)
    look.close()
    with pytest.raises(EnvsyncError, match="stopped"):
        look.state()
    assert [path.name for path in Path(look.open_request.prefix).iterdir()] == ["lock"]
