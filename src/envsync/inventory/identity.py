"""Finding a machine's own entry in the inventory from its hostname."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence


def own_server_names(entries: Sequence[tuple[str, str]], hostname: str) -> list[str]:
    """Return the names in `entries` (name, host) that fit the hostname best; usually none or one.

    A name counts more than a host, and an exact match more than a match up to the domain. Two full
    names with different domains never match.
    """
    own = hostname.rstrip(".").lower()
    if not own or _short(own) == "localhost":
        return []  # every machine has this name
    tests = (
        [(name, name.lower() == own) for name, _ in entries],
        [(name, _same_but_for_domain(name, own)) for name, _ in entries],
        [(name, host.lower() == own) for name, host in entries],
        [(name, _same_but_for_domain(host, own)) for name, host in entries],
    )
    for test in tests:
        fitting = [name for name, fits in test if fits]
        if fitting:
            return fitting
    return []


def _same_but_for_domain(one: str, other: str) -> bool:
    one, other = one.rstrip(".").lower(), other.lower()
    if one == other:
        return True
    one_is_full, other_is_full = _short(one) != one, _short(other) != other
    return one_is_full != other_is_full and _short(one) == _short(other)


def _short(host: str) -> str:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host.partition(".")[0]
    return host
