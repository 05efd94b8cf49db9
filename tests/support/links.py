"""Links of one implementation, and uploads."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from envsync.ssh.fabric_link import FabricLink, open_route
from envsync.ssh.handshakes import SHARED_LIMITER, HandshakeLimiter
from envsync.ssh.route import ResolvedRoute
from envsync.ssh.session import Address, Link, Timeouts


def open_fabric_link(
    address: Address,
    timeouts: Timeouts = Timeouts(),  # noqa: B008 - frozen
    *,
    environ: Mapping[str, str] | None = None,
    limiter: HandshakeLimiter = SHARED_LIMITER,
) -> FabricLink:
    """Open a link by fabric, whatever the route; HOME and more are looked up in `environ`."""
    route = ResolvedRoute.find(address, os.environ if environ is None else environ)
    return open_route(route, timeouts, limiter)


def upload(
    link: Link,
    source: Path,
    target: Path,
    progress: Callable[[int], None] = lambda _: None,
    offset: int = 0,
) -> None:
    """Send the file `source` from `offset` on."""
    with source.open("rb") as file:
        file.seek(offset)
        link.upload(file, os.fsencode(target), progress)
