"""References between an inventory's entries: every name must exist.

These checks use the document as it was read, whatever the schema says about it, so that a person
gets every complaint at once. Values of the wrong shape are skipped here; the schema reports them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from envsync.inventory import names, ranges
from envsync.inventory.document import Document, Value
from envsync.inventory.problems import KeyPath, Problem, shown
from envsync.inventory.schema import ServerEntry, boolean

MAX_SERVERS = 20_000
"""More than any lab has; ranges of ranges must not fill the memory."""
_SUGGESTIONS = 50
"""The most suggestions in one run: each compares a word with every known name, which is slow."""


@dataclass(frozen=True, slots=True)
class _Known:
    """Every server name with its groups."""

    groups_by_server: Mapping[str, frozenset[str]]
    _left: Iterator[int] = field(default_factory=lambda: iter(range(_SUGGESTIONS)))

    def suggestion(self, word: str, known: Iterable[str]) -> str:
        return "" if next(self._left, None) is None else names.suggestion(word, known)

    def members(self, token: str) -> list[str]:
        """Return the servers of a token; those that a name or range gives may be unknown."""
        if token.startswith("@"):
            return [name for name, groups in self.groups_by_server.items() if token[1:] in groups]
        return list(_expanded(token))

    def complaint(self, token: str) -> str | None:
        members = self.members(token)
        unknown = [name for name in members if name not in self.groups_by_server]
        if members and not unknown:
            return None
        groups = (f"@{group}" for groups in self.groups_by_server.values() for group in groups)
        missing = unknown[0] if unknown else token
        named = "" if missing == token else f", which has no {missing!r}"
        near = self.suggestion(missing, itertools.chain(self.groups_by_server, groups))
        return f"got {token!r}{named}{near}"


def find_problems(document: Document) -> list[Problem]:
    """Return a problem for each name that is duplicate, unknown or missing, and each unfit host."""
    top = _mapping(document.value)
    servers = _mapping(top.get("servers"))
    problems: list[Problem] = []
    if top.get("servers") == {}:
        problems.append(Problem(("servers",), "expected at least one server, got nothing"))
    if sum(len(_expanded(key)) for key in servers) > MAX_SERVERS:
        return [Problem(("servers",), f"expected at most {MAX_SERVERS} servers in all ranges")]
    problems += [*_duplicates(servers, document), *_shared_hosts(servers), *_own_jumps(servers)]
    if not all(map(_expanded, servers)):
        return problems  # a name that is refused may be one that the environments refer to
    known = _Known(
        {name: _groups(entry) for key, entry in servers.items() for name in _expanded(key)}
    )
    for name, entry in _mapping(top.get("environments")).items():
        problems += _environment_problems(("environments", name), _mapping(entry), known)
    return problems


_LIKELY_NAMES = ("jump", "host")


def misplaced(document: Document) -> Iterator[Problem]:
    """Yield a problem for each server key that is probably a setting indented too little.

    `user: alice` at the level of the servers would be a server named `user`. A bastion may really
    be called `jump`, so `jump` and `host` count only right after a server without settings.
    """
    before: Value = ""
    for key, entry in _mapping(_mapping(document.value).get("servers")).items():
        may_be_name, before = key in _LIKELY_NAMES and before is not None, entry
        if not may_be_name and key in ServerEntry.model_fields and isinstance(entry, str):
            text = (
                f"expected `{key}:` indented below its server (or {{host: ...}}, for "
                f"a server called {key}), got {shown(entry)}"
            )
            yield Problem(("servers", key, "host"), text)


def _duplicates(servers: Mapping[str, Value], document: Document) -> Iterator[Problem]:
    first: dict[str, str] = {}
    for key in servers:
        for name in _expanded(key):
            other = first.setdefault(name, key)
            if other != key:
                line = document.lines[("servers", other)]
                also = f"also in {other!r} on line {line}"
                text = f"expected every server once, got {name!r} again ({also})"
                yield Problem(("servers", key), text)
                break


def _shared_hosts(servers: Mapping[str, Value]) -> Iterator[Problem]:
    """Yield a problem for each entry that does not give one host for each of its servers."""
    for key, entry in servers.items():
        host = entry if isinstance(entry, str) else _mapping(entry).get("host")
        members = _expanded(key)
        if not isinstance(host, str) or not members:
            continue
        hosts = _expanded(host)
        if hosts and len(hosts) != len(members):
            several = f"a range of {len(members)} hosts, one for each server"
            expected = "one host" if len(members) == 1 else several
            yield Problem(("servers", key, "host"), f"expected {expected}, got {shown(host)}")


def _own_jumps(servers: Mapping[str, Value]) -> Iterator[Problem]:
    """Yield a problem for each entry with a server that would be its own jump host.

    As in ssh, it is no loop if the ports differ: a container behind its own host's port.
    """
    for key, entry in servers.items():
        if _mapping(entry).get("port", 22) != 22:
            continue
        jump, host = _mapping(entry).get("jump"), _mapping(entry).get("host")
        hops = [hop.strip() for hop in jump.split(",")] if isinstance(jump, str) else []
        looped = set(hops).intersection(_expanded(host if isinstance(host, str) else key))
        if looped:
            text = f"expected another host than the server's own, got {min(looped)!r}"
            yield Problem(("servers", key, "jump"), f"{text}: give it an entry of its own")


def _environment_problems(
    path: KeyPath, entry: Mapping[str, Value], known: _Known
) -> Iterator[Problem]:
    source, tokens = entry.get("source"), _texts(entry.get("push_to"))
    if isinstance(source, str) and source not in known.groups_by_server:
        complaint = f"got {source!r}{known.suggestion(source, known.groups_by_server)}"
        yield Problem((*path, "source"), f"expected a server of the inventory, {complaint}")
    if source is None and _is_true(entry.get("watch")):
        text = "expected the server that pushes it, since watch is true, got nothing"
        yield Problem((*path, "source"), text)
    for index, token in tokens.items():
        unknown = known.complaint(token)
        if unknown is not None:
            text = f"expected a server, @group or range of the inventory, {unknown}"
            yield Problem((*path, "push_to", index), text)
    targets = {member for token in tokens.values() for member in known.members(token)}
    if list(targets) == [source]:
        text = f"expected a server other than the source, got only {source!r}"
        yield Problem((*path, "push_to"), text)


def _mapping(value: Value) -> Mapping[str, Value]:
    return value if isinstance(value, dict) else {}


def _groups(entry: Value) -> frozenset[str]:
    return frozenset(_texts(_mapping(entry).get("groups")).values())


def _texts(value: Value) -> dict[int, str]:
    """Return the strings in a list by their index."""
    items = value if isinstance(value, list) else []
    return {index: item for index, item in enumerate(items) if isinstance(item, str)}


def _expanded(text: str) -> tuple[str, ...]:
    """Return the names of a range; none if it is malformed."""
    try:
        return ranges.expand(text)
    except ValueError:
        return ()


def _is_true(value: Value) -> bool:
    try:
        return isinstance(value, str) and boolean(value)
    except ValueError:
        return False
