"""Converts named tuples to JSON and back, with every field type-checked.

Used for messages from another end, and also for envsync's own files, which anybody may have
edited or a crash may have truncated.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, List, Type, TypeVar, Union, get_type_hints

from envsync.errors import AgentFailed

T = TypeVar("T")

_hints = lru_cache(maxsize=None)(get_type_hints)
"""Evaluating a class's annotations takes ten times as long as all else for one value of it."""

_SECONDS_MAX = float(1 << 33)
"""The year 2242. Functions that show a time as a date fail for numbers far beyond it."""

_INTEGER_MAX = 1 << 64
"""JSON has integers of any length, but float division fails for huge ones."""


def to_json(value: Any) -> Any:
    """Return a value as JSON, from which `from_json` restores it."""
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return {name: to_json(part) for name, part in value._asdict().items()}
    if isinstance(value, (tuple, list)):
        return [to_json(part) for part in value]
    if isinstance(value, dict):
        return {key: to_json(part) for key, part in value.items()}
    return value


def from_json(cls: Type[T], document: Any, name: str = "") -> T:
    """Return the value of that class that a document describes; `AgentFailed` if it does not fit.

    Unknown members are ignored and members for fields with a default may be missing, because
    another release may write more or less. The error contains `name`, by default the class's.
    """
    result: T = _parse(cls, document, name or cls.__name__)
    return result


def _parse(kind: Any, value: Any, where: str) -> Any:
    origin = getattr(kind, "__origin__", None)
    if kind is Any:
        return value
    if origin is Union:
        inner = next(part for part in kind.__args__ if part is not type(None))
        return None if value is None else _parse(inner, value, where)
    if origin is tuple and isinstance(value, list):
        if kind.__args__[0] is int and _are_integers(value):
            return tuple(value)
        return tuple(_parse(kind.__args__[0], part, where) for part in value)
    if origin is dict and isinstance(value, dict):
        return {
            _parse(str, key, where): _parse(kind.__args__[1], part, where)
            for key, part in value.items()
        }
    if isinstance(kind, type) and hasattr(kind, "_field_defaults") and isinstance(value, dict):
        hints = _hints(kind)
        given = [name for name in hints if name in value or name not in kind._field_defaults]
        try:
            fields = {name: _parse(hints[name], value[name], f"{where}.{name}") for name in given}
        except KeyError as error:
            raise AgentFailed(f"received a message without {error} in {where}") from error
        return kind(**fields)
    if _is_plain(kind, value):
        return float(value) if kind is float else value
    raise AgentFailed(f"received a message with an unexpected {where}")


def _is_plain(kind: Any, value: Any) -> bool:
    """Return whether a value is of that plain kind, and within the limits above."""
    if kind is float:
        return type(value) in (int, float) and abs(value) <= _SECONDS_MAX
    if type(value) is not kind:
        return False
    if kind is str:
        return is_encodable(value)
    return kind in (bool, bytes, type(None)) or (kind is int and abs(value) < _INTEGER_MAX)


def _are_integers(values: List[Any]) -> bool:
    """Return whether all are plain integers; a fast path, as there may be 200,000 file sizes."""
    return set(map(type, values)) == {int} and max(map(abs, values)) < _INTEGER_MAX


def is_encodable(text: str) -> bool:
    """Return whether a text can be encoded; JSON can contain surrogates that stand for no byte."""
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return True
