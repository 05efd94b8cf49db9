"""What the two ends tell each other, as values; checked where they come in.

Paths and names are text with surrogate escapes, so that any bytes survive JSON.
"""

from __future__ import annotations

from typing import Any, Dict, NamedTuple, Optional, Tuple, Type, TypeVar, Union, get_type_hints

from envsync.errors import AgentFailed

T = TypeVar("T")

_SECONDS_MAX = float(1 << 33)
"""The year 2242. What shows a moment as a date survives no number far beyond it."""

_INTEGER_MAX = 1 << 64
"""JSON has integers of any length; whoever divides one needs it to fit."""


KEPT = "kept"
"""The method of a version that envsync did not publish: it was made by hand there."""
SERVER_IN_HINTS = "SERVER"
"""Stands in an error's hint for the agent's own server; who asks it knows its name."""
GROUP_OWNED = "group-owned"
"""A kind of finding: another user's version stands there, which this one may replace."""
DAMAGED_RECORD = "damaged-record"
"""A kind of finding: what was published there may not be known any more."""


class Finding(NamedTuple):
    """Something a person should know; `blocking` where it forbids a push."""

    kind: str
    message: str
    blocking: bool = False


class PlatformFacts(NamedTuple):
    system: str
    machine: str
    libc: str
    libc_version: str


class ProcessUse(NamedTuple):
    """A process of this user that runs from an environment, stands in it, or has its files open."""

    pid: int
    command: str


class PlaceFacts(NamedTuple):
    """What tells a directory from every other on any machine (see `agent.place`).

    Device and inode as text: the network has numbers of 64 bits.
    """

    boot: str
    device: str
    inode: str
    changed_ns: int
    is_network: bool


class UseFacts(NamedTuple):
    processes: Tuple[ProcessUse, ...]


class ServerFacts(NamedTuple):
    """Who and what answers. `codecs` are what it can undo, the best first; `hello` names none."""

    who: str
    codecs: Tuple[str, ...]
    platform: PlatformFacts
    time_seconds: float
    python: str


class TotalsFacts(NamedTuple):
    entries: int
    files: int
    size_bytes: int


class SourceState(NamedTuple):
    """What a source is. `had` are the source revisions that it has had itself.

    `revision_there` is that of the tree as it will be published: `revision` itself, but for
    a relocation.
    """

    path: str
    revision: str
    revision_there: str
    totals: TotalsFacts
    had: Tuple[str, ...]
    findings: Tuple[Finding, ...]
    platform: PlatformFacts
    hashed_bytes: int


class RelocationFacts(NamedTuple):
    """What a source's tree becomes at another place.

    `problems` say which files cannot be had there and why, `left` which name the old place
    and stay as they are, because it does not matter. `rewritten_files` counts the others.
    """

    revision: str
    totals: TotalsFacts
    problems: Tuple[str, ...]
    left: Tuple[str, ...]
    rewritten_files: int


class RecordFacts(NamedTuple):
    """A record, as the other end sees it."""

    number: int
    revision: str
    source_revision: str
    who: str
    source: str
    when_seconds: float
    method: str
    transport: str
    totals: TotalsFacts
    kept_because: str


class TargetState(NamedTuple):
    """What stands on a target.

    `revision` and `totals` are of the live tree, empty where there is none. `record` is
    that of the version which was published to the name, whether or not it was changed
    since; None where envsync never published there. `nonce` is what the push lock says
    there: a source that finds it in its own place is the same directory.
    """

    path: str
    exists: bool
    revision: str
    totals: TotalsFacts
    record: Optional[RecordFacts]
    generations: Tuple[RecordFacts, ...]
    held: Dict[str, str]
    findings: Tuple[Finding, ...]
    platform: PlatformFacts
    nonce: str
    free_bytes: int
    free_inodes: Optional[int]
    filesystem: str
    recovered: Optional[str]
    hashed_bytes: int


class PlanFacts(NamedTuple):
    """What a push has to do on a target; bytes are of contents.

    `reused_bytes` of what is copied come from elsewhere than the environment's own trees:
    from the environments (or the package cache) of `reused_from`, those that give most first.
    """

    origin: str
    fetch_files: int
    fetch_bytes: int
    copy_files: int
    copy_bytes: int
    remove_entries: int
    new_bytes: int
    packages: Tuple[str, ...]
    reused_bytes: int
    reused_from: Tuple[str, ...]


class StageFacts(NamedTuple):
    """A staging tree: its path, and the token that its writers have to present."""

    plan: PlanFacts
    tree: str
    token: str
    findings: Tuple[Finding, ...]


class SampleFacts(NamedTuple):
    """Some of what would be sent: its bytes, and for each way to compress it what it becomes
    and how long that takes."""

    content_bytes: int
    packed_bytes: Tuple[int, ...]
    seconds: Tuple[float, ...]


class RunFacts(NamedTuple):
    """How a tool ended on a target, and the last that it printed."""

    status: int
    output: str


class RebuiltFacts(NamedTuple):
    """An environment that a target's own tools made, taken into the staging tree."""

    plan: PlanFacts
    totals: TotalsFacts
    findings: Tuple[Finding, ...]


class RsyncFacts(NamedTuple):
    """The rsync that is there: its path and what it says of itself; both may be empty."""

    path: str
    version: str


class SpaceFacts(NamedTuple):
    free_bytes: int


class BundleFacts(NamedTuple):
    """Where a bundle goes, and what an earlier push left of one."""

    path: str
    size_bytes: int
    digest: str
    free_bytes: int


class ReceiveFacts(NamedTuple):
    """What a transfer brought; `failed` are paths whose contents did not come right."""

    files: int
    size_bytes: int
    failed: Tuple[str, ...]


class DifferenceFacts(NamedTuple):
    """What differs between two versions: packages first, then counts, then paths.

    `paths` are prefixed with "+", "-" or "~" and a blank; at most as many as asked for.
    """

    packages: Tuple[str, ...]
    groups: Tuple[str, ...]
    paths: Tuple[str, ...]
    added: int
    removed: int
    changed: int


class VerifyFacts(NamedTuple):
    """A rehash of every byte against the record.

    `unshared` are paths that the group of a shared environment cannot use as it should.
    """

    revision: str
    record: Optional[RecordFacts]
    totals: TotalsFacts
    damaged: Tuple[str, ...]
    missing: Tuple[str, ...]
    unexpected: Tuple[str, ...]
    unshared: Tuple[str, ...]


class EnvironmentFacts(NamedTuple):
    """An environment as `list` shows it."""

    name: str
    revision: str
    record: Optional[RecordFacts]
    drifted: bool
    totals: TotalsFacts
    packages: int
    generations: int
    problem: str


class SweepFacts(NamedTuple):
    """What a clean-up freed of one environment, or in a dry run would free.

    `generations` are the numbers of those that went, `unfinished` counts trees of pushes
    that were interrupted. `stays` says what was left and why; `locked` who works there, so
    that nothing was looked at; `problems` what resisted.
    """

    name: str
    generations: Tuple[int, ...]
    unfinished: int
    size_bytes: int
    stays: Tuple[str, ...]
    locked: str
    problems: Tuple[str, ...]


class GcFacts(NamedTuple):
    """What a clean-up freed on one server."""

    environments: Tuple[SweepFacts, ...]
    cache_files: int
    cache_bytes: int


class ListFacts(NamedTuple):
    """All environments of a server; `time_seconds` is by its own clock."""

    environments: Tuple[EnvironmentFacts, ...]
    time_seconds: float


def to_json(value: Any) -> Any:
    """A message as JSON-ready values."""
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return {name: to_json(part) for name, part in value._asdict().items()}
    if isinstance(value, (tuple, list)):
        return [to_json(part) for part in value]
    if isinstance(value, dict):
        return {key: to_json(part) for key, part in value.items()}
    return value


def from_json(cls: Type[T], document: Any) -> T:
    """The message that a document describes; `AgentFailed` where it does not fit."""
    result: T = _parse(cls, document, cls.__name__)
    return result


def _parse(kind: Any, value: Any, where: str) -> Any:
    origin = getattr(kind, "__origin__", None)
    if origin is Union:
        inner = next(part for part in kind.__args__ if part is not type(None))
        return None if value is None else _parse(inner, value, where)
    if origin is tuple and isinstance(value, list):
        return tuple(_parse(kind.__args__[0], part, where) for part in value)
    if origin is dict and isinstance(value, dict):
        return {
            _parse(str, key, where): _parse(kind.__args__[1], part, where)
            for key, part in value.items()
        }
    if isinstance(kind, type) and hasattr(kind, "_fields") and isinstance(value, dict):
        hints = get_type_hints(kind)
        try:
            fields = {
                name: _parse(hints[name], value[name], "%s.%s" % (where, name))
                for name in kind._fields
            }
        except KeyError as error:
            raise AgentFailed("a message without %s in %s" % (error, where)) from error
        return kind(**fields)
    if _is_plain(kind, value):
        return float(value) if kind is float else value
    raise AgentFailed("a message with an unexpected %s" % where)


def _is_plain(kind: Any, value: Any) -> bool:
    """Whether a value is of that plain kind, and none that Python's JSON alone can hold."""
    if kind is float:
        return type(value) in (int, float) and abs(value) <= _SECONDS_MAX
    if type(value) is not kind:
        return False
    if kind is str:
        return is_encodable(value)
    return kind is bool or (kind is int and abs(value) < _INTEGER_MAX)


def is_encodable(text: str) -> bool:
    """Whether a text stands for bytes: JSON can spell surrogates that stand for none."""
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return True
