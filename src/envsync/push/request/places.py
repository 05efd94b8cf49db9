"""The places of a push: prefixes on servers, and how to connect to them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from envsync.ssh.session import Link
from envsync.tree.sharing import Share

HERE = "here"
"""The connection of this machine itself, where no link is needed."""


@dataclass(frozen=True, slots=True)
class Place:
    """A prefix on a server, and how to connect to it; `open_link` is None for this machine."""

    server: str
    prefix: str
    open_link: Callable[[], Link] | None = None


@dataclass(frozen=True, slots=True)
class Destination(Place):
    """A target: a place, and what is set for it alone."""

    limit_bits_per_second: int | None = None
    share: Share | None = None
