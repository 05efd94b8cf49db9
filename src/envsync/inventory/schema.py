"""The inventory file as pydantic models: its keys and what each may hold.

The values are strings, as `document` leaves them. The text of a validator's `ValueError` completes
"expected ..."; no other wording of the models gets into a message.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, model_validator

from envsync.inventory import names, quantities, ranges
from envsync.inventory.model import (
    DEFAULT_CHECK_TIMEOUT_SECONDS,
    DEFAULT_KEEP,
    InUse,
    MethodName,
    Outside,
    ShareMode,
)
from envsync.inventory.problems import KeyPath, Problem, shown

_TRUE = frozenset({"true", "yes", "on"})
_FALSE = frozenset({"false", "no", "off"})
# YAML reads each of `port 22`, `port:22` and `port=22` as one string.
_KEY_OF_SORTS = re.compile(r"(?!host:)(\w+)[\s:=]\s*(\S+)")


def _text(parse: Callable[[str], object]) -> BeforeValidator:
    """Return a validator that applies `parse` to a string, and to "" in place of any other value.

    Any other value therefore gets the complaint about a wrong string.
    """

    def validate(value: object) -> object:
        return parse(value if isinstance(value, str) else "")

    return BeforeValidator(validate)


def _whole_number(low: int, high: int | None) -> Callable[[str], int]:
    span = f"{low} or more" if high is None else f"from {low} to {high}"

    def parse(text: str) -> int:
        is_number = text.isascii() and text.isdigit()
        if high is None and is_number and len(text) > 9:
            raise ValueError("a whole number of at most 9 digits")
        number = int(text) if is_number and len(text) <= 9 else -1
        if number < low or (high is not None and number > high):
            raise ValueError(f"a whole number {span}")
        return number

    return parse


def _one_of(choices: tuple[str, ...]) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(f"{', '.join(choices[:-1])} or {choices[-1]}")
        return text

    return parse


def boolean(text: str) -> bool:
    if text.lower() not in _TRUE | _FALSE:
        raise ValueError("true or false")
    return text.lower() in _TRUE


def _host(text: str) -> str:
    """Check a host, or a range with as many hosts as the range of servers in the entry's name."""
    for member in ranges.expand(text):
        names.host(member)
    return text


def _identity_file(text: str) -> Path:
    """Return the path as written: the ssh layer expands `~` each time it connects."""
    expected = "a path that starts with / or ~/"
    if not text.startswith(("/", "~")) or not text.isprintable():
        raise ValueError(expected)
    try:
        Path(text).expanduser()
    except RuntimeError:
        raise ValueError(f"{expected}, of a user who exists here") from None
    return Path(text)


def _command(text: str) -> str:
    # A lone surrogate such as "\ud800" cannot be encoded, and so not sent.
    if not text.strip() or "\0" in text or text.encode(errors="ignore").decode() != text:
        raise ValueError('a shell command such as python -c "import numpy"')
    return text


def _server_or_range(text: str) -> str:
    for member in ranges.expand(text):
        names.server_name(member)
    return text


def _token(text: str) -> str:
    if text.startswith("@"):
        names.group_name(text[1:])
        return text
    return _server_or_range(text)


Keep = Annotated[int, _text(_whole_number(0, None))]
Seconds = Annotated[float, _text(quantities.duration_seconds)]
PositiveSeconds = Annotated[float, _text(quantities.positive_duration_seconds)]
Prefix = Annotated[str, _text(names.prefix)]


class _Entry(BaseModel):
    """A frozen model without unknown keys; a key without a value, or nothing at all, is absent."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _without_empty_keys(cls, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {
                key: inner
                for key, inner in value.items()
                if inner is not None or key not in cls.model_fields
            }
        return {} if value is None else value


class ShareEntry(_Entry):
    group: Annotated[str, _text(names.user_group)]
    mode: Annotated[ShareMode, _text(_one_of(get_args(ShareMode)))] = "read"


class ServerEntry(_Entry):
    host: Annotated[str, _text(_host)] | None = None
    user: Annotated[str, _text(names.user)] | None = None
    port: Annotated[int, _text(_whole_number(1, 65535))] | None = None
    jump: Annotated[str, _text(names.jump)] | None = None
    identity_file: Annotated[Path, _text(_identity_file)] | None = None
    prefix: Prefix | None = None
    groups: tuple[Annotated[str, _text(names.group_name)], ...] = ()
    limit: Annotated[int, _text(quantities.bits_per_second)] | None = None
    share: ShareEntry | None = None

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, value: Any) -> Any:
        if isinstance(value, str):
            slip = _KEY_OF_SORTS.fullmatch(value)
            if slip is not None and slip[1] in cls.model_fields:
                raise ValueError(f"a colon and a space, as in `{slip[1]}: {slip[2]}`")
            return {"host": value}
        return value


class EnvironmentEntry(_Entry):
    source: Annotated[str, _text(names.server_name)] | None = None
    push_to: tuple[Annotated[str, _text(_token)], ...] = ()
    method: Annotated[MethodName, _text(_one_of(get_args(MethodName)))] = "auto"
    keep: Keep = DEFAULT_KEEP
    check: Annotated[str, _text(_command)] | None = None
    check_timeout: PositiveSeconds = DEFAULT_CHECK_TIMEOUT_SECONDS
    in_use: Annotated[InUse, _text(_one_of(get_args(InUse)))] = "publish"
    local: tuple[Annotated[str, _text(names.local_glob)], ...] = ()
    outside: Annotated[Outside, _text(_one_of(get_args(Outside)))] = "warn"
    watch: Annotated[bool, _text(boolean)] = False
    share: ShareEntry | None = None


class WatchEntry(_Entry):
    settle: Seconds = 10.0
    rescan: PositiveSeconds = 3600.0


class InventoryFile(_Entry):
    prefix: Prefix | None = None
    servers: dict[Annotated[str, _text(_server_or_range)], ServerEntry]
    environments: dict[Annotated[str, _text(names.environment_name)], EnvironmentEntry] = {}
    watch: WatchEntry = WatchEntry()


def validate(value: object) -> InventoryFile | list[Problem]:
    """Return the validated file, or a problem for each key and value that is wrong."""
    try:
        return InventoryFile.model_validate(value)
    except ValidationError as error:
        details = [dict(detail) for detail in error.errors(include_url=False)]
    unknown = [_path(detail) for detail in details if _is_unknown(detail)]
    meant = {
        (*path[:-1], key)
        for path in unknown
        for key in names.nearest(str(path[-1]), _known_keys(path))
    }
    return [
        _problem(detail)
        for detail in details
        # A key that is missing because it is misspelt is reported as the misspelling alone.
        if detail["type"] != "missing" or _path(detail) not in meant
    ]


def _problem(detail: Mapping[str, Any]) -> Problem:
    """Return pydantic's complaint in envsync's words."""
    path, kind, value = _path(detail), detail["type"], detail["input"]
    if _is_unknown(detail):
        return Problem(path, _unknown_key(path))
    if kind == "missing":
        expected = "at least one server" if path == ("servers",) else "the name of a group of users"
        return Problem(path, f"expected {expected}, got nothing")
    if kind == "value_error":
        return Problem(path, f"expected {detail['ctx']['error']}, got {shown(value)}")
    return Problem(path, f"expected {_shape(kind, path)}, got {shown(value)}")


def _path(detail: Mapping[str, Any]) -> KeyPath:
    return tuple(step for step in detail["loc"] if step != "[key]")


def _is_unknown(detail: Mapping[str, Any]) -> bool:
    return bool(detail["type"] == "extra_forbidden")


def _unknown_key(path: KeyPath) -> str:
    known = _known_keys(path)
    key, colon, rest = str(path[-1]).partition(":")
    near = f"; write `{key}: {rest}`, with a space" if colon and key in known else ""
    near = near or names.suggestion(str(path[-1]), known)
    return f"expected one of {', '.join(known)}, got an unknown key{near}"


def _shape(kind: str, path: KeyPath) -> str:
    if kind == "tuple_type":
        return "a list such as [one, two]"
    if kind not in ("dict_type", "model_type"):
        return "another value"
    if not path:
        return "a mapping with at least `servers`"
    if path[-1] == "share":
        return "a mapping such as {group: lab, mode: read}"
    shapes = {
        "servers": ("gpu01: {user: alice}, one for each server", "{host: gpu01, user: alice}"),
        "environments": ("myenv: {push_to: [gpu01]}", "{push_to: [gpu01]}"),
        "watch": ("{settle: 10s}",),
    }
    return f"a mapping such as {shapes[str(path[0])][len(path) - 1]}"


def _known_keys(path: KeyPath) -> list[str]:
    """Return the keys allowed in the place of the key at `path`, in alphabetical order."""
    models: dict[str, type[BaseModel]] = {"servers": ServerEntry, "environments": EnvironmentEntry}
    if len(path) == 1:
        model: type[BaseModel] = InventoryFile
    elif path[0] == "watch":
        model = WatchEntry
    elif "share" in path[2:-1]:
        model = ShareEntry
    else:
        model = models[str(path[0])]
    return sorted(model.model_fields)
