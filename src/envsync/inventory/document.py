"""A YAML text as plain values, each with its line.

Every scalar is text as written, or None where nothing (or `null`) is written. The schema decides
what it means, so that no `no` becomes False, no `0123` octal and no `check: true` a boolean. Depth
and size are bounded, also after aliases are followed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Union

import yaml

from envsync.inventory.problems import KeyPath, Problem
from envsync.inventory.yaml_words import yaml_complaint

Value = Union[None, str, "list[Value]", "dict[str, Value]"]

MAX_VALUES = 50_000
"""The limit after aliases are followed: enough for more than 2000 servers with every key."""

_NOTHING = frozenset({"", "~", "null", "Null", "NULL"})
_TAG = "tag:yaml.org,2002:"
_TEXT_TAGS = ("str", "int", "float", "bool", "null", "timestamp", "value", "merge")
_TAGS = frozenset(_TAG + kind for kind in (*_TEXT_TAGS, "map", "seq"))


class _Refused(Exception):
    """A fault that makes the whole document unusable, with its line."""

    def __init__(self, text: str, line: int | None = None, path: KeyPath = ()) -> None:
        super().__init__(text)
        self.problem = Problem(path, text, line)


@dataclass(frozen=True, slots=True)
class Document:
    """The values, the line (from 1) of each, and the problems found while reading."""

    value: Value
    lines: dict[KeyPath, int]
    problems: list[Problem] = field(default_factory=list)

    def locate(self, path: KeyPath) -> tuple[KeyPath, int]:
        """Return the part of `path` that the file has, and the nearest line.

        A missing key counts as part of it; steps into a scalar (the short form of a server) are
        dropped.
        """
        value, line, shown = self.value, self.lines.get((), 1), path
        for depth, step in enumerate(path):
            if not isinstance(value, dict | list):
                return (path[:depth] if value is not None else shown), line
            line = self.lines.get(path[: depth + 1], line)
            value = _step(value, step)
        return shown, line


def parse(text: str) -> Document:
    """Return the document of `text`; for unusable text, the value None and a problem."""
    reader = _NodeReader()
    try:
        node = _compose(text)
        value = None if node is None else reader.read(node, ())
    except _Refused as refused:
        return Document(None, {}, [refused.problem])
    except RecursionError:
        # Some hundred levels: nobody writes them, but an alias may stand for what contains it.
        text = "expected fewer levels of nesting, and no alias inside what it stands for"
        return Document(None, {}, [Problem((), text, 1)])
    if value is None and not reader.problems:
        reader.problems.append(
            Problem((), "expected a mapping with at least `servers`, got nothing")
        )
    return Document(value, reader.lines, reader.problems)


def _compose(text: str) -> yaml.Node | None:
    loader = None
    try:
        loader = yaml.SafeLoader(text)
        return loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        line, words = yaml_complaint(text, error)
        raise _Refused(f"expected valid YAML: {words}", line) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        words = f"expected text without control characters, got {chr(error.character)!r}"
        raise _Refused(words, line) from error
    except (ValueError, OverflowError) as error:
        # An escape such as "\U00110000": PyYAML checks only that its digits are hexadecimal.
        line = 1 if loader is None else loader.get_mark().line + 1
        words = "expected valid YAML: an escape that stands for no character"
        raise _Refused(words, line) from error


class _NodeReader:
    """Converts nodes into values, once for every alias that refers to them."""

    def __init__(self) -> None:
        self.lines: dict[KeyPath, int] = {}
        self.problems: list[Problem] = []
        self._count = 0

    def read(self, node: yaml.Node, path: KeyPath) -> Value:
        line = node.start_mark.line + 1
        self._count += 1
        if self._count > MAX_VALUES:
            text = f"expected at most {MAX_VALUES} values after following the aliases"
            raise _Refused(text, line, path)
        self.lines.setdefault(path, line)
        if node.tag not in _TAGS:
            text = f"expected a value without a tag, got the tag {node.tag!r}"
            self.problems.append(Problem(path, text, line))
            return None
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.read(child, (*path, index)) for index, child in enumerate(node.value)]
        quoted = isinstance(node, yaml.ScalarNode) and node.style
        return None if node.value in _NOTHING and not quoted else str(node.value)

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> Value:
        mapping: dict[str, Value] = {}
        own_lines: dict[str, int] = {}
        for key_node, value_node in _own_pairs(node):
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                self.problems.append(Problem(path, "expected plain text as a key", line))
                continue
            key = key_node.value
            if key in own_lines:
                first = f"first on line {own_lines[key]}"
                text = f"expected every key once, got {key!r} again ({first})"
                self.problems.append(Problem((*path, key), text, line))
                continue
            own_lines[key] = line
            inner = (*path, key)
            self.lines.setdefault(inner, line)  # a mapping's own key is read before a merged one
            mapping[key] = self.read(value_node, inner)
        for merged in self._merged(node, path):
            mapping = {**merged, **mapping}
        return mapping

    def _merged(self, node: yaml.MappingNode, path: KeyPath) -> Iterator[dict[str, Value]]:
        """Yield the mappings that `<<: *anchor` merges; own keys and earlier merges win."""
        for key_node, value_node in node.value:
            if not _is_merge(key_node):
                continue
            several = isinstance(value_node, yaml.SequenceNode)
            for source in value_node.value if several else [value_node]:
                if isinstance(source, yaml.MappingNode):
                    value = self.read(source, path)
                    yield value if isinstance(value, dict) else {}
                else:
                    line = key_node.start_mark.line + 1
                    text = "expected an alias of a mapping"
                    self.problems.append(Problem((*path, "<<"), text, line))


def _own_pairs(node: yaml.MappingNode) -> Iterator[tuple[yaml.Node, yaml.Node]]:
    return ((key, value) for key, value in node.value if not _is_merge(key))


def _is_merge(key: yaml.Node) -> bool:
    return key.tag == _TAG + "merge"


def _step(value: Value, step: str | int) -> Value:
    if isinstance(value, dict):
        return value.get(str(step))
    if isinstance(value, list) and isinstance(step, int) and step < len(value):
        return value[step]
    return None
