"""What envsync keeps on a target, damaged: it rehashes, refuses, or says what is wrong.

Never a traceback, never a wrong success, and no version is lost.
"""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from envsync.agent.places import event_history, state_files
from envsync.agent.places.event_history import HistoryEvent
from envsync.agent.publishing.prune import remove_orphaned_trees
from envsync.agent.server.disk_failures import disk_trouble
from envsync.agent.source.source_environment import SourceEnvironment
from envsync.agent.target import queries as target_questions
from envsync.agent.target.gc import sweep
from envsync.agent.target.gc_survey import Rules
from envsync.agent.target.look import NOT_LOOKED
from envsync.agent.wire.checked_json import to_json
from envsync.agent.wire.messages import DAMAGED_RECORD
from envsync.errors import EnvsyncError, NoSpace, NotFound, StorageFailed, VerificationFailed
from envsync.tree.revision import revision_of
from tests.support import disk
from tests.support.pushes import Server, die_in, environment, records, require_sound
from tests.support.trees import file, manifest_of

ONE = environment({b"bin/tool": file(b"one", 0o755), b"lib/shared": file(b"the same")})
TWO = environment({b"bin/tool": file(b"two", 0o755), b"lib/shared": file(b"the same")})
THREE = environment({b"bin/tool": file(b"three", 0o755)})
REVISIONS = [revision_of(manifest_of(nodes)) for nodes in (ONE, TWO, THREE)]


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _flip(path: Path) -> None:
    """One bit in the middle: the smallest damage."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _other_inode(path: Path) -> None:
    """Well-formed, and wrong."""
    path.write_bytes(path.read_bytes().replace(b'"inode": ', b'"inode": 1'))


def _other_types(path: Path) -> None:
    """Undamaged by its digest, and wrong."""
    state_files.write_checked(os.fsencode(path), {"new": {}, "kept": None})


DAMAGE: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "truncated": _truncate,
    "a bit flipped": _flip,
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "garbage": lambda path: path.write_bytes(bytes(range(256)) * 8),
    "of another version": lambda path: path.write_text('{"format": 99, "records": []}'),
    "of other types": lambda path: path.write_text('{"inode": "x", "number": "one", "new": 1}'),
    "nested too deep": lambda path: path.write_bytes(b"[" * 100_000),
    "gone": lambda path: path.unlink(),
}
damaged = pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())


# --- the files, one by one --------------------------------------------------------------


@damaged
def test_the_content_cache(damage: Callable[[Path], object], server: Server) -> None:
    """It is hashed again; what is in it is never taken for more than it is."""
    server.push(ONE)
    server.push(TWO)
    for path in Path(server.cache).iterdir():
        damage(path)
    assert server.target().inspect(lock=False).revision == REVISIONS[1]
    disk.shift_content(server.live + b"/bin/tool")
    assert server.target().inspect(lock=False).revision == server.revision()
    server.push(THREE)
    require_sound(server)


@damaged
def test_damaged_manifest_is_made_anew(damage: Callable[[Path], object], server: Server) -> None:
    """`verify` knows the revision all the same, and makes the manifest anew."""
    server.push(ONE)
    [manifest] = (server.state / "generations").glob("*.manifest")
    damage(manifest)
    with pytest.raises(VerificationFailed, match="missing or damaged"):
        target_questions.differences(server.target(), None, 10, {})
    with pytest.raises(VerificationFailed, match="the contents are what was published"):
        target_questions.verify(server.target())
    assert not target_questions.verify(server.target()).damaged
    require_sound(server)


@damaged
def test_changed_version_with_a_damaged_manifest_fails_to_verify(
    damage: Callable[[Path], object], server: Server
) -> None:
    server.push(ONE)
    disk.shift_content(server.live + b"/bin/tool")
    [manifest] = (server.state / "generations").glob("*.manifest")
    damage(manifest)
    for _ in range(2):
        with pytest.raises(VerificationFailed, match="not what was published"):
            target_questions.verify(server.target())


def test_environment_that_vanishes_before_it_is_hashed_is_not_found(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.push(ONE)
    target = server.target()
    monkeypatch.setattr(target, "look", lambda *_, **__: NOT_LOOKED)
    with pytest.raises(NotFound, match="vanished"):
        target_questions.verify(target)


def test_a_manifest_is_not_made_anew_beside_a_push(server: Server) -> None:
    server.push(ONE)
    [manifest] = (server.state / "generations").glob("*.manifest")
    manifest.unlink()
    pushing = server.target()
    pushing.lock.acquire()
    with pytest.raises(VerificationFailed) as failed:
        target_questions.verify(server.target())
    assert "when the push there is done" in failed.value.hint
    assert not manifest.exists()
    pushing.lock.release()


def _bad_block(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each reading of a file fail, as a disk does that cannot return it."""

    def opened(name: Any, *arguments: Any, **named: Any) -> Any:
        if isinstance(name, (str, bytes)) and os.fsencode(name) == os.fsencode(path):
            raise OSError(errno.EIO, os.strerror(errno.EIO), name)
        return open(name, *arguments, **named)

    for module in (state_files, event_history):
        monkeypatch.setattr(module, "open", opened, raising=False)


def _directory(path: Path, _: pytest.MonkeyPatch) -> None:
    path.unlink()
    path.mkdir()


def _link_to_itself(path: Path, _: pytest.MonkeyPatch) -> None:
    path.unlink()
    path.symlink_to(path.name)


unreadable = pytest.mark.parametrize("make_unreadable", [_bad_block, _directory, _link_to_itself])


@unreadable
def test_all_but_clean_up_goes_on_where_the_record_of_an_earlier_version_cannot_be_read(
    make_unreadable: Callable[[Path, pytest.MonkeyPatch], None],
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for nodes in (ONE, TWO, THREE):
        server.push(nodes, keep=9)
    make_unreadable(server.state / "generations" / "000001.json", monkeypatch)
    assert [it.kind for it in server.target().inspect(lock=False).findings] == [DAMAGED_RECORD]
    source = SourceEnvironment(str(server.prefix), server.name, (), server.cache, None)
    assert source.inspect().revision == REVISIONS[2]
    assert server.push(ONE, keep=9).number == 4
    assert server.rollback(2).number == 2
    rules = Rules(9, False, False, time.time())
    assert "a record is damaged" in sweep(server.target(), rules).stays[0]
    assert len(server.earlier()) == 3
    sweep(server.target(), rules._replace(drifted=True))
    if make_unreadable is not _bad_block:
        assert not records(server).damaged()
    assert len(server.earlier()) == 2
    require_sound(server)


@unreadable
@pytest.mark.parametrize("name", ["history.jsonl", "held.json"])
def test_looks_and_pushes_go_on_where_the_history_or_the_note_of_what_is_held_cannot_be_read(
    name: str,
    make_unreadable: Callable[[Path, pytest.MonkeyPatch], None],
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server.push(ONE)
    server.push(TWO)
    server.rollback(1)
    held = set(server.target().inspect(lock=False).held)
    make_unreadable(server.state / name, monkeypatch)
    assert set(server.target().inspect(lock=False).held) == held


@damaged
def test_version_with_a_damaged_record_is_unknown_and_kept(
    damage: Callable[[Path], object], server: Server
) -> None:
    """The version counts as unknown; it is not lost, nor is any other."""
    server.push(ONE)
    server.push(TWO)
    [_, second] = sorted((server.state / "generations").glob("*.json"))
    damage(second)
    state = server.target().inspect(lock=False)
    readable = [record.number for record in records(server).all()]
    assert state.record is None or state.record.number in readable
    if damage is not DAMAGE["gone"] and 2 not in readable:
        assert [found.kind for found in state.findings] == [DAMAGED_RECORD]
    server.push(THREE)
    stand = {
        revision_of(disk.uncached().snapshot(os.fsencode(tree)).manifest())
        for tree in (server.state / "trees").iterdir()
    }
    assert REVISIONS[1] in stand


@pytest.mark.parametrize("number", [2, -1, 10**30, 1.5])
def test_a_record_of_another_number(number: float, server: Server) -> None:
    """It would lead to another version's manifest, or to names that no file can have."""
    server.push(ONE)
    [path] = (server.state / "generations").glob("*.json")
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, "number": number}))
    known = records(server)
    assert [record.number for record in known.all()] in ([], [1])
    server.push(TWO)
    assert server.revision() == REVISIONS[1]


@pytest.mark.parametrize(
    "damage",
    [*DAMAGE.values(), _other_inode, _other_types],
    ids=[*DAMAGE.keys(), "another inode", "of other types, undamaged"],
)
def test_an_intent_after_the_switch(damage: Callable[[Path], object], server: Server) -> None:
    """What stood there before had no record yet: it gets one, and stays."""
    os.mkdir(server.live)
    disk.build(server.live, ONE)  # by hand: envsync never published it

    def push(die: Callable[[], None]) -> None:
        server.push(TWO, on_step=lambda step: die() if step == "check" else None)

    die_in(push)
    assert server.revision() == REVISIONS[1]
    damage(server.state / "intent.json")
    server.push(THREE)
    if damage is DAMAGE["gone"]:
        return  # nothing is left that says so
    kept = [record.revision for record in records(server).all() if record.kept_because]
    assert REVISIONS[0] in kept
    for nodes in (ONE, TWO, THREE):
        server.push(nodes, keep=1)
    assert REVISIONS[0] in [r.revision for r in records(server).all() if r.kept_because]


@damaged
def test_the_note_of_the_staging(damage: Callable[[Path], object], server: Server) -> None:
    server.push(ONE)
    with server.staged(TWO):
        pass
    damage(server.state / "staging.json")
    server.push(TWO)
    assert server.manifest() == manifest_of(TWO)
    assert len(list((server.state / "trees").iterdir())) == 1
    require_sound(server)


@damaged
def test_the_name_in_the_lock(damage: Callable[[Path], object], server: Server) -> None:
    server.push(ONE)
    damage(server.state / "lock")
    server.push(TWO)
    assert server.manifest() == manifest_of(TWO)


@damaged
def test_torn_line_of_the_history_takes_no_other_with_it(
    damage: Callable[[Path], object], server: Server
) -> None:
    """A line that was torn takes no other with it."""
    server.push(ONE)
    damage(server.state / "history.jsonl")
    server.push(TWO)
    server.push(THREE)
    assert [event.get("number") for event in records(server).history.events()][-2:] == [2, 3]
    assert [record.number for record in records(server).all()] == [2, 3]


@pytest.mark.parametrize("what", [name for name in DAMAGE if name != "gone"])
def test_revision_stays_held_where_the_note_of_it_is_damaged(what: str, server: Server) -> None:
    """Nobody undoes a rollback because a note of it is damaged."""
    server.push(ONE)
    server.push(TWO)
    server.rollback()
    DAMAGE[what](server.state / "held.json")
    assert records(server).held.reasons() == {REVISIONS[1]: "rolled back by bob@here"}
    server.push(TWO, retry_held=True)
    assert records(server).held.reasons() == {}
    assert server.revision() == REVISIONS[1]


def test_lines_of_the_history_that_are_none_hold_nothing(server: Server) -> None:
    server.push(ONE)
    history, held = server.state / "history.jsonl", server.state / "held.json"
    known = HistoryEvent("rollback", "bob@here", 1.0, holds=REVISIONS[1])
    odd = [{"event": "rollback"}, {"event": "rollback", "who": 7, "holds": REVISIONS[2]}]
    lines = [json.dumps(line) for line in (to_json(known), *odd)]
    history.write_text("\n".join(lines) + "\n")
    held.write_bytes(b"")
    assert records(server).held.reasons() == {REVISIONS[1]: "rolled back by bob@here"}


@pytest.mark.parametrize("left", [b"ab12", b"\xff\xfe\n", b"\0" * 300, b""])
def test_damaged_log_of_a_source_keeps_the_revisions_it_had(
    left: bytes, server: Server, tmp_path: Path
) -> None:
    """Else nothing could be pushed from there any more."""
    server.push(ONE)
    source = SourceEnvironment(str(server.prefix), server.name, (), server.cache, str(tmp_path))
    source.history.remember(REVISIONS[1])
    (file_,) = (tmp_path / "had").iterdir()
    with file_.open("ab") as log:
        log.write(left)
    source.history.remember(REVISIONS[2])
    assert set(source.history.revisions()) >= set(REVISIONS)


# --- a disk that does not answer --------------------------------------------------------


def test_records_that_cannot_be_listed_are_not_no_records(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """... or every earlier version would be taken for needless, and removed."""
    server.push(ONE)
    server.push(TWO)
    original = os.listdir

    def fail(path: str | bytes = ".") -> object:
        if os.fsencode(path).endswith(b"generations"):
            raise OSError(errno.EIO, "Input/output error")
        return original(path)

    monkeypatch.setattr(os, "listdir", fail)
    with pytest.raises(OSError, match="Input/output"):
        remove_orphaned_trees(server.target().environment, [])
    monkeypatch.undo()
    require_sound(server)


def test_file_that_cannot_be_read_does_not_count_as_missing(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.push(ONE)

    def fail(*_: object) -> object:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(state_files, "open", fail, raising=False)
    with pytest.raises(OSError, match="Input/output"):
        state_files.read_json(os.fsencode(server.state / "intent.json"))


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (errno.ENOSPC, NoSpace),
        (errno.EDQUOT, NoSpace),
        (errno.EIO, StorageFailed),
        (errno.EROFS, StorageFailed),
        (errno.EUCLEAN, StorageFailed),
        (errno.ENOENT, None),
        (errno.EACCES, None),
    ],
)
def test_system_error_is_classified(code: int, kind: type[EnvsyncError] | None) -> None:
    trouble = disk_trouble(OSError(code, os.strerror(code)))
    assert (None if trouble is None else trouble.kind) is kind
