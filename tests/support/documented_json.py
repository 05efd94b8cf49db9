"""Checks JSON documents against the tables of docs/json.md."""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[2] / "docs" / "json.md"
_ROW = re.compile(r"\| `(?P<field>\w+)` \| (?P<type>[^|]+) \|")
_PLAIN: dict[str, tuple[type, ...]] = {
    "text": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}
_RESULTS = {
    "push": "Push",
    "pull": "Push",
    "pack": "Pack",
    "unpack": "Push",
    "diff": "Diff",
    "verify": "Verify",
    "list": "List",
    "history": "History",
    "rollback": "Rollback",
    "remove": "Remove",
    "gc": "Gc",
    "doctor": "Doctor",
    "bootstrap": "Bootstrap",
    "status": "Status",
    "daemon install": "DaemonInstall",
    "daemon pause": "DaemonRequest",
    "daemon resume": "DaemonRequest",
    "daemon sync": "DaemonRequest",
    "config check": "ConfigCheck",
    "config path": "ConfigPath",
    "demo": "Demo",
}


def check_document(text: str) -> dict[str, Any]:
    """Parse `text` as one document; AssertionError if it is not as docs/json.md says."""
    document: dict[str, Any] = json.loads(text)
    _check(document, "Document", "document")
    assert text.isascii()
    error = document["error"]
    assert document["exit_code"] == (0 if error is None else error["exit_code"])
    if document["result"] is not None:
        _check(document["result"], _RESULTS[document["command"]], "result")
    return document


@functools.cache
def tables() -> dict[str, dict[str, str]]:
    """Return the fields and types of every object that the page describes."""
    found: dict[str, dict[str, str]] = {}
    heading = ""
    for line in PAGE.read_text().splitlines():
        if line.startswith("## "):
            heading = line.removeprefix("## ")
        row = _ROW.match(line)
        if row is not None:
            found.setdefault(heading, {})[row["field"]] = row["type"].strip()
    return found


def _check(value: Any, kind: str, where: str) -> None:
    if " or " in kind:
        first, _, second = kind.partition(" or ")
        _check(value, second if value is None else first, where)
    elif kind.startswith("list of "):
        assert isinstance(value, list), where
        for number, item in enumerate(value):
            _check(item, kind.removeprefix("list of "), f"{where}[{number}]")
    elif kind.startswith("map of "):
        assert isinstance(value, dict), where
        for key, item in value.items():
            _check(item, kind.removeprefix("map of "), f"{where}.{key}")
    elif kind == "anything":
        pass
    elif kind in _PLAIN:
        assert isinstance(value, _PLAIN[kind]), f"{where} is {value!r}, not {kind}"
        assert kind == "boolean" or not isinstance(value, bool), where
    elif kind == "Result":
        assert isinstance(value, dict), where
    else:
        fields = tables()[kind]
        assert isinstance(value, dict), f"{where} is {value!r}, not {kind}"
        assert set(value) == set(fields), f"{where}: the fields of {kind}"
        for field, inner in fields.items():
            _check(value[field], inner, f"{where}.{field}")
