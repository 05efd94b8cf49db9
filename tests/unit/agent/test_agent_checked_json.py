"""Messages as JSON: round trips, and refusal of everything that is none."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envsync.agent.wire import (
    build_operations,
    checked_json,
    messages,
    rebuild_operations,
    server_operations,
    source_operations,
    target_operations,
    transfer_operations,
)
from envsync.agent.wire.checked_json import from_json, is_encodable, to_json
from envsync.agent.wire.operation import Operation, encode
from envsync.agent.wire.transfer_operations import ReceiveFacts
from envsync.conda.platform_needs import Platform
from envsync.errors import AgentFailed
from envsync.tree.manifest import Totals

MODULES = (
    messages,
    build_operations,
    rebuild_operations,
    server_operations,
    source_operations,
    target_operations,
    transfer_operations,
)
CLASSES: list[Any] = [
    value
    for module in MODULES
    for value in vars(module).values()
    if isinstance(value, type) and hasattr(value, "_fields") and value.__module__ == module.__name__
]
ALL_OPTIONAL = [cls for cls in CLASSES if len(cls._field_defaults) == len(cls._fields)]
names: st.SearchStrategy[str] = st.text(st.characters(codec="utf-8"), max_size=5)
anything: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | names,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)


class Held(NamedTuple):
    reasons: dict[str, str]


def values(cls: Any) -> st.SearchStrategy[Any]:
    if cls is target_operations.History:  # events have no type
        return st.builds(cls, st.just(({"event": "publish", "number": 1},)))
    return st.from_type(cls)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_message_survives_a_round_trip_through_json(cls: Any) -> None:
    @settings(max_examples=4)
    @given(values(cls).map(_plain))
    def check(message: Any) -> None:
        document, payload = encode(message)
        sent = json.loads(json.dumps(document))
        assert Operation[None, cls]("x.y").decode_answer(sent, payload) == message

    check()


def _plain(message: Any) -> Any:
    """The same as an end would say it: no text that stands for no bytes, no absurd number."""
    if isinstance(message, dict):
        return {_plain(key): _plain(value) for key, value in message.items()}
    if isinstance(message, tuple):
        parts = map(_plain, message)
        return type(message)(*parts) if hasattr(message, "_fields") else tuple(parts)
    if isinstance(message, str):
        return message if is_encodable(message) else ""
    if isinstance(message, (int, float)) and not abs(message) <= 2**33:
        return type(message)(0)
    return message


@given(anything)
def test_anything_else_is_the_agents_failure(document: Any) -> None:
    for cls in CLASSES:
        if cls not in ALL_OPTIONAL or not isinstance(document, dict):
            with pytest.raises(AgentFailed):
                from_json(cls, document)


def test_a_missing_field_has_its_default() -> None:
    assert from_json(build_operations.Check, {"command": "true"}) == build_operations.Check("true")


def test_valid_message_is_read() -> None:
    facts = {"system": "Linux", "machine": "x86_64", "libc": "glibc", "libc_version": "2.36"}
    assert to_json(from_json(Platform, facts)) == facts


@pytest.mark.parametrize("missing", ["pid", "command"])
def test_a_missing_field_is_named(missing: str) -> None:
    document = {"pid": 1, "command": "python"}
    del document[missing]
    with pytest.raises(AgentFailed, match=missing):
        from_json(messages.ProcessUse, document)


@pytest.mark.parametrize(
    ("document", "where"),
    [
        pytest.param({"pid": "1", "command": ""}, "pid", id="text for a number"),
        pytest.param({"pid": True, "command": ""}, "pid", id="a truth for a number"),
        pytest.param({"pid": 1.0, "command": ""}, "pid", id="a fraction for a number"),
        pytest.param({"pid": None, "command": ""}, "pid", id="nothing for a number"),
        pytest.param({"pid": 1, "command": 1}, "command", id="a number for text"),
        pytest.param({"pid": 1, "command": ["x"]}, "command", id="a list for text"),
        pytest.param([1, ""], "ProcessUse", id="a list for an object"),
        pytest.param("x", "ProcessUse", id="text for an object"),
        pytest.param(None, "ProcessUse", id="nothing at all"),
    ],
)
def test_the_wrong_kind_is_named(document: Any, where: str) -> None:
    with pytest.raises(AgentFailed, match=where):
        from_json(messages.ProcessUse, document)


RECORD: dict[str, Any] = {
    "number": 1, "revision": "r", "source_revision": "r", "who": "a@b", "source": "s",
    "when_seconds": 1, "method": "mirror", "transport": "stream",
    "totals": {"entries": 1, "files": 1, "size_bytes": 1}, "kept_because": "",
    "environment_id": "",
}  # fmt: skip


@pytest.mark.parametrize(
    "when",
    [float("inf"), float("-inf"), float("nan"), 10**400, -(10**400), 1e299, 1e12, -1e12, 2**33 + 1],
)
def test_numbers_that_are_no_times(when: float) -> None:
    """Python's JSON writes and reads them; nothing that shows a date survives them."""
    assert from_json(messages.RecordFacts, RECORD).when_seconds == 1.0
    with pytest.raises(AgentFailed, match="when_seconds"):
        from_json(messages.RecordFacts, {**RECORD, "when_seconds": when})


@pytest.mark.parametrize("size", [2**64, -(2**64), 10**400, 10**4000])
def test_numbers_that_are_no_sizes(size: int) -> None:
    """Nothing that shows a size as `1.9 GB` survives an integer that is no float."""
    good = {"entries": 1, "files": 1, "size_bytes": 2**62}
    assert from_json(Totals, good).size_bytes == 2**62
    with pytest.raises(AgentFailed, match="size_bytes"):
        from_json(Totals, {**good, "size_bytes": size})


@pytest.mark.parametrize("text", ["\ud800", "a\udfff", "\udd00b"])
def test_text_that_stands_for_no_bytes(text: str) -> None:
    """JSON can spell it; the first that makes a path of it would fail."""
    for document in ({"pid": 1, "command": text}, {"pid": 1, "command": json.loads(f'"{text}"')}):
        with pytest.raises(AgentFailed, match="command"):
            from_json(messages.ProcessUse, document)
    with pytest.raises(AgentFailed, match="reasons"):
        from_json(Held, {"reasons": {text: "x"}})


def test_fields_of_a_later_version_are_passed_over() -> None:
    document = {**RECORD, "colour": "blue"}
    assert from_json(messages.RecordFacts, document).number == 1


def test_names_that_are_no_text_survive() -> None:
    path = b"lib/\xff\xfe".decode("utf-8", "surrogateescape")
    facts = ReceiveFacts(1, (path,))
    back = from_json(ReceiveFacts, json.loads(json.dumps(to_json(facts)).encode()))
    assert back.failed[0].encode("utf-8", "surrogateescape") == b"lib/\xff\xfe"


def test_many_numbers_are_checked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sizes of all files of a source: one by one, 200,000 take half a second."""

    def each(kind: Any, value: Any) -> bool:
        assert kind is not int, "one by one"
        return True

    monkeypatch.setattr(checked_json, "_is_plain", each)
    asked = source_operations.SendFiles(tuple(range(1000)), ("zstd",), "", b"")
    assert from_json(source_operations.SendFiles, to_json(asked)) == asked


@pytest.mark.parametrize("wrong", [True, 1.0, "1", None, 1 << 64, -(1 << 64)])
def test_wrong_number_among_many_is_refused(wrong: Any) -> None:
    document = {"sizes": [1, 2, wrong, 3], "codecs": [], "there": "", "payload": b""}
    with pytest.raises(AgentFailed):
        from_json(source_operations.SendFiles, document)
