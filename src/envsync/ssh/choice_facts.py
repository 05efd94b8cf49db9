"""Gathers the facts for the choice of an implementation, without contacting a server."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from envsync.ssh.choice import HopFacts
from envsync.ssh.resolved_route import Hop, ResolvedRoute

_KLIST_SECONDS = 5.0


def facts(route: ResolvedRoute) -> tuple[HopFacts, ...]:
    """Return the facts of every hop, first hop first."""
    environ = route.config.environ
    asks_for_ticket = any(hop.settings.gssapi for hop in route.hops)
    has_ticket = asks_for_ticket and _has_ticket(environ)
    return tuple(_of_hop(hop, has_ticket=has_ticket) for hop in route.hops)


def _of_hop(hop: Hop, *, has_ticket: bool) -> HopFacts:
    settings = hop.settings
    certificates = [str(file) for file in settings.certificate_files if _is_file(file)]
    return HopFacts(
        host=settings.alias,
        has_live_master=hop.master is not None,
        connects_by=_connects_by(hop),
        has_authority=hop.known.has_authority,
        only_by_command=settings.known_hosts_command is not None and not hop.known.trusted,
        only_by_dns=settings.trusts_dns and not hop.known.trusted,
        identities=tuple(filter(None, map(_kind, settings.identity_files))),
        token_library=settings.pkcs11_provider,
        certificate_file=certificates[0] if certificates else None,
        has_ticket=has_ticket and settings.gssapi,
    )


def _connects_by(hop: Hop) -> str | None:
    """Return the setting that changes how the socket is made and that fabric ignores, or None.

    As with `ssh`, these settings do not apply to a host behind a jump host.
    """
    settings = hop.settings
    if settings.proxy_command is not None:
        return "ProxyUseFdpass" if settings.proxy_passes_socket else None
    if not hop.place.is_direct:
        return None
    if settings.bind_address is not None:
        return f"BindAddress {settings.bind_address}"
    if settings.bind_interface is not None:
        return f"BindInterface {settings.bind_interface}"
    return None


def _kind(identity: Path) -> str | None:
    """Return a key's type from its public half: None without a key, "unknown" without that half."""
    file = identity if identity.suffix == ".pub" else Path(f"{identity}.pub")
    try:
        return file.read_text(errors="replace").split()[0]
    except (OSError, IndexError):
        return "unknown" if _is_file(identity) else None


def _is_file(path: Path) -> bool:
    """Return whether `path` is a file; False if this user may not look.

    Common configurations name such files.
    """
    try:
        return path.is_file()
    except OSError:
        return False


def _has_ticket(environ: Mapping[str, str]) -> bool:
    klist = shutil.which("klist", path=environ.get("PATH"))
    if klist is not None:
        try:
            done = subprocess.run(
                [klist, "-s"],
                env=dict(environ),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                timeout=_KLIST_SECONDS,
            )
        except (OSError, subprocess.TimeoutExpired):
            return False
        return done.returncode == 0
    name = environ.get("KRB5CCNAME") or f"/tmp/krb5cc_{os.getuid()}"  # noqa: S108
    kind, _, path = name.rpartition(":")
    # A cache in the kernel or in a daemon cannot be inspected, but somebody configured it.
    return kind not in ("", "FILE", "DIR") or os.path.exists(path)  # noqa: PTH110 - never raises
