"""The rules for names: servers, groups, environments, hosts, users and paths.

Every check returns its text in its final form, or raises a `ValueError` whose text completes
"expected ...". Names end up in file names, in ssh's arguments and on terminals, so the rules list
what is allowed, not what is forbidden.
"""

from __future__ import annotations

import difflib
import posixpath
import re
from collections.abc import Iterable

from envsync.tree.environment_name import BASE
from envsync.tree.local import LocalPaths

_HOST = re.compile(r"[\w:][\w.:%+-]{0,252}")
_SERVER = re.compile(r"\w[\w.:%+-]{0,199}|::?\w[\w.:%+-]{0,199}")
_GROUP = re.compile(r"\w[\w.+-]{0,199}")
_USER = re.compile(r"\w(?:[\w.@+\\-]{0,253}[\w.@+$-])?")
_HOP = re.compile(
    r"(?:(?P<user>[^@]+)@)?(?:\[(?P<v6>[0-9A-Fa-f:.%\w]+)\]|(?P<host>[^:@\[\]]+))(?::(?P<port>\d{1,5}))?"
)
_NOT_A_HOST = re.compile(r"\d+|true|false|yes|no|on|off|null|none", re.IGNORECASE)
_LEADING_ZEROS = re.compile(r"(?<![0-9])0+(?=[0-9])")

_ENVIRONMENT_NAME_MAX_BYTES = 200
_NEAREST_MAX = 3


def server_name(text: str) -> str:
    if _SERVER.fullmatch(text) is None:
        raise ValueError(
            "a server name of letters, digits and . _ - + : %, starting with a letter or digit"
        )
    return text


def group_name(text: str) -> str:
    if _GROUP.fullmatch(text) is None:
        raise ValueError(
            "a group name of letters, digits and . _ - +, starting with a letter or digit"
        )
    return text


def environment_name(text: str) -> str:
    """Check a name under `PREFIX/envs` that conda accepts too; never `base` (conda itself)."""
    if text == BASE:
        raise ValueError(
            "an environment other than base, which is conda itself and differs on every server"
        )
    unsafe = any(character in "/\\:#" or character.isspace() for character in text)
    if not text or text.startswith(("-", ".")) or unsafe or not text.isprintable():
        raise ValueError("an environment name without / \\ : # or spaces, not starting with - or .")
    if len(text.encode()) > _ENVIRONMENT_NAME_MAX_BYTES:
        raise ValueError(f"an environment name of at most {_ENVIRONMENT_NAME_MAX_BYTES} bytes")
    return text


def host(text: str) -> str:
    user_name, at, _ = text.rpartition("@")
    if at and _USER.fullmatch(user_name):
        raise ValueError("a host without its user, which has a key of its own (`user:`)")
    if _HOST.fullmatch(text) is None or _NOT_A_HOST.fullmatch(text):
        raise ValueError("a host name, an address or a host of ~/.ssh/config")
    if text.count(":") == 1:  # an IPv6 address has more colons
        raise ValueError("a host without its port, which has a key of its own (`port:`)")
    return text


def user(text: str) -> str:
    if _USER.fullmatch(text) is None:
        raise ValueError("a user name")
    return text


def user_group(text: str) -> str:
    """Check the name of a group of users on the servers; a number may be another group on each."""
    if _USER.fullmatch(text) is None or text.isdecimal():
        raise ValueError("the name of a group of users, not its number")
    return text


def jump(text: str) -> str:
    """Check one or more comma-separated hops, each `[USER@]HOST[:PORT]`."""
    hops = [hop.strip() for hop in text.split(",")]
    for hop in hops:
        match = _HOP.fullmatch(hop)
        if match is None or not _is_hop(match):
            raise ValueError(
                "jump hosts such as bastion or alice@bastion:2222, with commas between several"
            )
    return ",".join(hops)


def _is_hop(match: re.Match[str]) -> bool:
    port = match["port"]
    return (
        (match["user"] is None or _USER.fullmatch(match["user"]) is not None)
        and (match["host"] is None or _HOST.fullmatch(match["host"]) is not None)
        and (port is None or 1 <= int(port) <= 65535)
    )


def prefix(text: str) -> str:
    """Return conda's base directory in one spelling: no `//`, `.` or final slash.

    A path with `..` is refused.
    """
    expected = "an absolute path such as /workspace/alice/miniconda3"
    if not text.startswith("/") or not text.isprintable() or len(text.encode()) > 1024:
        raise ValueError(expected)
    if ".." in text.split("/"):
        raise ValueError(f"{expected}, without ..")
    normal = "/" + posixpath.normpath(text).lstrip("/")
    if normal == "/":
        raise ValueError(expected)
    return normal


def local_glob(text: str) -> str:
    """Check a glob of paths in an environment.

    One that would match all of it is refused, and one that would match what makes a directory an
    environment.
    """
    parts = text.split("/")
    if (
        not text.isprintable()
        or "" in parts
        or "." in parts
        or ".." in parts
        or not text.strip("*/")
    ):
        raise ValueError("a glob of paths inside the environment, such as share/jupyter/**")
    if LocalPaths([text]).matches(b"conda-meta/history"):
        raise ValueError("a glob that leaves conda-meta/history to the environment")
    return text


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return `; did you mean 'server2'?`, or "" if no known word is near."""
    near = [repr(one) for one in nearest(word, known)]
    either = " or ".join(filter(None, (", ".join(near[:-1]), *near[-1:])))
    return f"; did you mean {either}?" if near else ""


def nearest(word: str, known: Iterable[str]) -> list[str]:
    """Return the known word nearest to `word`, or a few that are equally near.

    Case and the leading zeros of numbers do not count at first: `GPU1` is `gpu01`. The result is
    empty if no word is near, or if too many are equally near: one of them would be any one.
    """
    words, plain = sorted(set(known)), _plain(word)
    equal = [one for one in words if _plain(one) == plain]
    if not equal:
        near = difflib.get_close_matches(word, words, n=_NEAREST_MAX + 1, cutoff=0.6)
        ratios = [difflib.SequenceMatcher(None, one, word).ratio() for one in near]
        equal = sorted(one for one, ratio in zip(near, ratios, strict=True) if ratio == ratios[0])
    return equal if len(equal) <= _NEAREST_MAX else []


def _plain(word: str) -> str:
    return _LEADING_ZEROS.sub("", word).casefold()
