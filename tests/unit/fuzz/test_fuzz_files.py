"""Files of envsync's own, damaged in any way: nothing of them is believed, nothing raises."""

from __future__ import annotations

import json
import os
import struct
import zlib
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from envsync.agent.places import locks
from envsync.agent.places.layout import Layout, environment_layout
from envsync.agent.places.local_environment import local_environment
from envsync.agent.places.locks import PushLock, nonce_at
from envsync.agent.places.records import Record, Records
from envsync.agent.places.state_files import read_json, write_whole
from envsync.agent.publishing.recovery import recover_switch
from envsync.agent.target.inspection import record_facts
from envsync.agent.trees.cache_file import MAGIC, Known
from envsync.agent.trees.changes import Moment
from envsync.agent.trees.content_cache import ContentCache, Summary
from envsync.agent.trees.scan_pass import Scan
from envsync.agent.trees.stat_rows import NO_ROWS
from envsync.agent.wire.checked_json import from_json, to_json
from envsync.agent.wire.target_operations import Requester
from envsync.errors import Locked
from envsync.transport.rsync_output import Output
from envsync.tree import listing as listings
from envsync.tree.entry import InvalidEntry
from envsync.tree.local import LocalPaths
from envsync.tree.manifest import ENTRIES_MAX, Totals

DEEP = b"[" * 100_000
RECORD = Record(
    3, "a" * 64, "b" * 64, 42, "alice@server1", "server1", 1.7e9, "mirror", "stream",
    Totals(3, 2, 100), "",
)  # fmt: skip
LOCAL = LocalPaths(["local"])
texts = st.text(max_size=5)
values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
many = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    (tmp_path / "envs").mkdir()
    found = environment_layout(str(tmp_path), "myenv")
    found.create()
    return found


def document_with(document: dict[str, Any], data: st.DataObject) -> dict[str, Any]:
    """The document with one of its fields, however deep, replaced or gone."""
    document = json.loads(json.dumps(document))
    at = document
    while True:
        key = data.draw(st.sampled_from(sorted(at)))
        if not isinstance(at[key], dict) or not at[key] or data.draw(st.booleans()):
            break
        at = at[key]
    if data.draw(st.booleans()):
        at[key] = data.draw(values)
    else:
        del at[key]
    return document


def damaged(document: dict[str, Any], data: st.DataObject) -> bytes:
    how = data.draw(st.sampled_from(["field", "cut", "flip", "noise", "deep", "number"]))
    if how == "field":
        return json.dumps(document_with(document, data)).encode()
    whole = json.dumps(document).encode()
    at = data.draw(st.integers(0, len(whole) - 1))
    return {
        "cut": whole[:at],
        "flip": whole[:at] + bytes([whole[at] ^ data.draw(st.integers(1, 255))]) + whole[at + 1 :],
        "noise": data.draw(st.binary(max_size=60)),
        "deep": DEEP,
        "number": b'{"number": ' + b"9" * 5000 + b"}",
    }[how]


@many
@given(st.data())
def test_damaged_record_is_read_as_one_or_none(layout: Layout, data: st.DataObject) -> None:
    """A record is one that can be told to the other side, or none."""
    write_whole(layout.generations + b"/000003.json", damaged(to_json(RECORD), data))
    records = Records(layout)
    for record in records.all():
        assert record.number == 3
        assert from_json(Record, json.loads(json.dumps(to_json(record)))) == record
        json.dumps(to_json(record_facts(record)))
    assert bool(records.damaged()) == (not records.all())
    records.next_number()


@many
@given(st.data())
def test_recovery_from_a_damaged_intent_switches_nothing(
    layout: Layout, data: st.DataObject
) -> None:
    """Recovery from any intent: nothing is switched, and nothing stands in the way any more."""
    intent = {
        "new": to_json(RECORD),
        "kept": None,
        "check": {"command": "", "timeout_seconds": 60.0},
        "event": {"event": "publish", "who": "x", "replaced_inode": 5, "replaced_revision": ""},
    }
    write_whole(layout.file("intent.json"), damaged(intent, data))
    recover_switch(local_environment(layout, LOCAL.patterns, None), lambda _: None)
    assert not Path(os.fsdecode(layout.file("intent.json"))).exists()
    assert Records(layout).all() == []


@many
@given(st.sampled_from(["held.json", "history.jsonl", "lock", "staging.json"]), st.data())
def test_damaged_notes_are_read_without_an_error(
    layout: Layout, name: str, data: st.DataObject
) -> None:
    write_whole(layout.file(name), damaged({"nonce": "x", "holder": "y", "since_seconds": 1}, data))
    records = Records(layout)
    json.dumps(records.held.reasons())
    assert all(isinstance(event, dict) for event in records.history.events())
    assert isinstance(nonce_at(layout), str)
    read_json(layout.file(name))


@many
@given(st.data())
def test_a_lock_says_who_holds_it_or_that_it_does_not_know(
    layout: Layout, data: st.DataObject
) -> None:
    lock = PushLock(layout, Requester("alice"))
    lock.acquire()
    try:
        said = damaged({"holder": "y", "pid": 1, "since_seconds": 1}, data)
        Path(os.fsdecode(layout.file("lock"))).write_bytes(said)
        with mock.patch.object(locks, "_GLANCES_MAX", 0), pytest.raises(Locked):
            PushLock(layout, Requester("bob")).acquire()
    finally:
        lock.release()


# --- the content cache ------------------------------------------------------------------


def sealed(head: bytes, body: bytes) -> bytes:
    """A cache file whose checksum is right, whatever it holds."""
    return MAGIC + struct.pack("<II", len(head), zlib.crc32(head)) + head + body


@many
@given(st.data())
def test_a_damaged_cache_is_no_cache(tmp_path: Path, data: st.DataObject) -> None:
    cache = ContentCache(str(tmp_path / "cache"), 1, 2, LOCAL)
    moment = Moment(1, 1, "boot", 1)
    seen = Scan({b"": NO_ROWS}, 0o755, 0, 1, 2, (b"l\xff",), (), (), 1, 0, b"s" * 32, moment)
    cache.store(Summary("r", Totals(1, 1, 1), seen), {b"": Known(NO_ROWS, b"", b"", 0, 0)})
    path = tmp_path / "cache" / next((tmp_path / "cache").iterdir()).name
    whole = path.read_bytes()
    size, _ = struct.unpack_from("<II", whole, len(MAGIC))
    start = len(MAGIC) + 8
    head, body = whole[start : start + size], whole[start + size :]
    if data.draw(st.booleans()):
        path.write_bytes(sealed(damaged(json.loads(head), data), body))
    else:
        at = data.draw(st.integers(0, len(whole) - 1))
        path.write_bytes(whole[:at] + data.draw(st.binary(max_size=20)) + whole[at + 1 :])
    found = cache.summary()
    assert found is None or isinstance(found.scan.signature, bytes)
    assert found is None or found.scan.moment.may_be_continued_from() is False
    assert set(cache.directories()) <= {b""}
    assert set(cache.of_tree(b"s" * 32)) <= {b""}


# --- rows and lines ---------------------------------------------------------------------


@given(st.binary(max_size=200))
def test_a_listing_is_itself_or_refused(data: bytes) -> None:
    try:
        entries = listings.decode_foreign(data, ENTRIES_MAX)
    except InvalidEntry:
        return
    assert listings.encode(entries) == data


@given(st.lists(st.binary(max_size=60), max_size=8))
def test_any_output_of_rsync_is_read_without_an_error(pieces: list[bytes]) -> None:
    output = Output()
    assert all(output.feed(piece) >= 0 for piece in pieces)
    assert output.wire_bytes is None or output.wire_bytes >= 0
