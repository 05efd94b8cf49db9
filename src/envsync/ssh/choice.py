"""Chooses the implementation of a link, fabric or the system's ssh, without contacting a server.

fabric over paramiko is the default. The system's `ssh` is chosen for what paramiko cannot do,
before anything is tried, so that nobody sees a refusal that `ssh` avoids.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping

from envsync.ssh import identities
from envsync.ssh.programs import ask_program
from envsync.ssh.route import Hop, ResolvedRoute

FABRIC, OPENSSH = "fabric", "ssh"
DEFAULT_REASON = "no host on the route needs the system's ssh"


def reason_for_ssh(route: ResolvedRoute) -> str | None:
    """Return why the system's ssh is needed; None if fabric will do."""
    return next((reason for hop in route.hops for reason in _reasons(hop, route)), None)


def _reasons(hop: Hop, route: ResolvedRoute) -> Iterator[str]:
    settings, host = hop.settings, hop.settings.alias
    if hop.users_socket is not None:
        yield f"a live ControlMaster for {host}"
    if (setting := _connects_by(hop)) is not None:
        yield f"{setting} for {host}"
    # Whatever plain keys stand beside it: they may be older than the authority.
    if hop.known.has_authority:
        yield f"the host key of {host} may be certified by a @cert-authority"
    if not hop.known.trusted and settings.known_hosts_command is not None:
        yield f"the host key of {host} is known to a KnownHostsCommand only"
    if not hop.known.trusted and settings.trusts_dns:
        yield f"the host key of {host} is known to the DNS only (VerifyHostKeyDNS)"
    if settings.pkcs11_provider is not None:
        yield f"the key for {host} is on a token (PKCS11Provider {settings.pkcs11_provider})"
    kinds = list(filter(None, map(identities.kind, settings.identity_files)))
    if kinds and all(kind.startswith("sk-") for kind in kinds):
        yield f"the only key for {host} is a FIDO key"
    for file in filter(identities.is_file, settings.certificate_files):
        yield f"a certificate for {host} ({file})"
    if settings.gssapi and _has_ticket(route.config.environ):
        yield f"a Kerberos ticket, and GSSAPIAuthentication for {host}"


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


def _has_ticket(environ: Mapping[str, str]) -> bool:
    klist = shutil.which("klist", path=environ.get("PATH"))
    if klist is not None:
        try:
            return ask_program([klist, "-s"], environ).returncode == 0
        except OSError:
            return False
    name = environ.get("KRB5CCNAME") or f"/tmp/krb5cc_{os.getuid()}"  # noqa: S108
    kind, _, path = name.rpartition(":")
    # A cache in the kernel or in a daemon cannot be inspected, but somebody configured it.
    return kind not in ("", "FILE", "DIR") or os.access(path, os.F_OK)
