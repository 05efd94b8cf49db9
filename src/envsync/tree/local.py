"""Paths that belong to each server: not sent, not drift, carried into the next version."""

from __future__ import annotations

import re
from typing import List, NamedTuple, Optional, Pattern, Sequence, Tuple

CACHES: Tuple[str, ...] = (
    "var/cache/fontconfig/**",
    "**/__pycache__/*.nbi",
    "**/__pycache__/*.nbc",
)
"""The default local paths that tools make anew when they are missing, so that nothing is lost with
them."""

DEFAULT_LOCAL: Tuple[str, ...] = (
    "conda-meta/state",
    *CACHES,
    "etc/jupyter/migrated",
    "share/jupyter/lab/settings/**",
)
"""Paths that tools write for one machine alone: variables that conda sets, font and numba caches
(compiled for this CPU), and Jupyter's run-time settings."""

NFS_REMAINS = b".nfs"
"""The prefix of the name that NFS gives to a file deleted while open; it can be neither copied nor
kept."""

_ANY_CHARACTER = rb"(?:[^/\x80-\xff]|[\xc2-\xf4][\x80-\xbf]+|[\x80-\xff])"


class _Rule(NamedTuple):
    directory: Pattern[bytes]
    name: Pattern[bytes]


class LocalPaths:
    """Compiled globs over paths relative to the environment's top.

    `*` and `?` stay within one component, `**` spans any number of them, `[...]` is a
    class. A pattern that ends in `/**` names a directory with everything below it.
    """

    def __init__(self, patterns: Sequence[str] = DEFAULT_LOCAL) -> None:
        self.patterns = tuple(patterns)
        self._rules = [_rule(pattern) for pattern in self.patterns]
        any_directory = b"|".join(rule.directory.pattern for rule in self._rules)
        self._any_directory: Optional[Pattern[bytes]] = (
            re.compile(any_directory, re.DOTALL) if self._rules else None
        )

    def names(self, directory: bytes) -> Optional[Pattern[bytes]]:
        """Return a pattern of the local names in `directory`; None where no name can be local."""
        if self._any_directory is None or not self._any_directory.fullmatch(directory):
            return None
        parts: List[bytes] = [
            rule.name.pattern for rule in self._rules if rule.directory.fullmatch(directory)
        ]
        return re.compile(b"|".join(parts), re.DOTALL) if parts else None

    def matches(self, path: bytes) -> bool:
        """Return whether a path is local or lies below a local directory."""
        while path:
            directory, _, name = path.rpartition(b"/")
            rule = self.names(directory)
            if rule is not None and rule.fullmatch(name):
                return True
            path = directory
        return False


def _rule(pattern: str) -> _Rule:
    pattern = pattern.strip("/")
    if pattern.endswith("/**"):
        pattern = pattern[:-3]
    directory, _, name = pattern.rpartition("/")
    return _Rule(_compiled(directory), _compiled("*" if name == "**" else name))


def _compiled(glob: str) -> Pattern[bytes]:
    return re.compile(b"(?:" + _translate(glob) + b")", re.DOTALL)


def _translate(glob: str) -> bytes:
    if glob == "**":
        return b".*"
    if glob.startswith("**/"):
        return b"(?:.*/)?" + _translate(glob[3:])
    if glob.endswith("/**"):
        return _translate(glob[:-3]) + b"(?:/.*)?"
    head, middle, tail = glob.partition("/**/")
    if middle:
        return _translate(head) + b"/(?:.*/)?" + _translate(tail)
    return b"".join(_translate_component(part) for part in _tokens(glob))


def _tokens(glob: str) -> List[str]:
    return re.findall(r"\[!?\]?[^\]/]*\]|.", glob, re.DOTALL)


def _translate_component(token: str) -> bytes:
    if token == "*":
        return b"[^/]*"
    if token == "?":
        return _ANY_CHARACTER
    if len(token) > 2 and token != "[!]":
        return _translate_class(token[1:-1])
    return re.escape(token.encode("utf-8", "surrogateescape"))


def _translate_class(inner: str) -> bytes:
    """Translate the inside of `[...]`: a leading `!` negates, `a-z` is a range of ASCII."""
    is_negated = inner.startswith("!")
    rest = inner[1:] if is_negated else inner
    members: List[str] = []
    while rest:
        low, high = rest[0], rest[2:3]
        if rest[1:2] == "-" and high and max(low, high) < "\x80":
            members += map(chr, range(ord(low), ord(high) + 1))
            rest = rest[3:]
        else:
            members.append(low)
            rest = rest[1:]
    encoded = (char.encode("utf-8", "surrogateescape") for char in members if char != "/")
    either = b"|".join(map(re.escape, encoded)) or b"(?!)"
    return b"(?!%s)%s" % (either, _ANY_CHARACTER) if is_negated else b"(?:%s)" % either
