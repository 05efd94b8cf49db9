"""What may be called what: servers, groups, environments, hosts, users and paths.

Every function takes a text and gives it back in its final form, or raises `ValueError`
whose text completes "expected ...". Names end up in file names, in ssh's arguments and
on terminals, so what they may contain is listed, not what they may not.
"""

from __future__ import annotations

import difflib
import posixpath
import re
from collections.abc import Iterable

_HOST = re.compile(r"[\w:][\w.:%+-]{0,252}")
_SERVER = re.compile(r"\w[\w.:%+-]{0,199}|::?\w[\w.:%+-]{0,199}")
_GROUP = re.compile(r"\w[\w.+-]{0,199}")
_USER = re.compile(r"\w(?:[\w.@+\\-]{0,253}[\w.@+$-])?")
_HOP = re.compile(
    r"(?:(?P<user>[^@]+)@)?(?:\[(?P<v6>[0-9A-Fa-f:.%\w]+)\]|(?P<host>[^:@\[\]]+))(?::(?P<port>\d{1,5}))?"
)
_NOT_A_HOST = re.compile(r"\d+|true|false|yes|no|on|off|null|none", re.IGNORECASE)

_ENVIRONMENT_NAME_MAX_BYTES = 200
BASE = "base"
"""The name that conda itself has for its own prefix."""


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
    """A name under `PREFIX/envs` that conda takes too; never `base`, which is conda itself."""
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
    if text.count(":") == 1:  # an address of IPv6 has more
        raise ValueError("a host without its port, which has a key of its own (`port:`)")
    return text


def user(text: str) -> str:
    if _USER.fullmatch(text) is None:
        raise ValueError("a user name")
    return text


def jump(text: str) -> str:
    """One hop or several with commas between, each `[USER@]HOST[:PORT]`."""
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
    """conda's base directory, in one spelling: no `//`, no `.` or `..`, no slash at the end."""
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
    """A glob of paths in an environment; one that would take in all of it is refused."""
    parts = text.split("/")
    if (
        not text.isprintable()
        or "" in parts
        or "." in parts
        or ".." in parts
        or not text.strip("*/")
    ):
        raise ValueError("a glob of paths inside the environment, such as share/jupyter/**")
    return text


def suggestion(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'server2'?`, or nothing where no known word is near."""
    near = nearest(word, known)
    return "" if near is None else f"; did you mean {near!r}?"


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that is nearest; None where none is near."""
    return next(iter(difflib.get_close_matches(word, sorted(set(known)), n=1, cutoff=0.6)), None)
