"""Links of one implementation, and uploads that nobody watches."""

from __future__ import annotations

import os
from collections.abc import Mapping

from envsync.ssh.fabric_link import FabricLink, open_route
from envsync.ssh.handshakes import SHARED_LIMITER, HandshakeLimiter
from envsync.ssh.resolved_route import ResolvedRoute
from envsync.ssh.session import Address, Timeouts


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


def ignore_progress(_: int) -> None:
    """What to give to `Link.upload` where nothing is to be learnt from it."""
