"""Chooses the implementation of a link, fabric or the system's ssh: a pure rule.

fabric over paramiko is the default. The system's `ssh` is chosen for what paramiko cannot do,
before anything is tried, so that nobody sees a refusal that `ssh` avoids.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

FABRIC, OPENSSH = "fabric", "ssh"
DEFAULT_REASON = "no host on the route needs the system's ssh"


@dataclass(frozen=True, slots=True)
class HopFacts:
    """The facts about one host of the route that decide the choice.

    `host` is the user's name for it. `has_authority`: known_hosts has an authority that may have
    signed its key; other keys there may be older ones. `only_by_command`, `only_by_dns`:
    known_hosts has no key, but a KnownHostsCommand or the DNS may supply one. `connects_by`: the
    setting that changes how the connection is made. `identities`: the types of the key files that
    exist (`ssh-ed25519`), or `unknown`. `has_ticket` is set only if the configuration allows
    GSSAPI.
    """

    host: str
    has_live_master: bool = False
    connects_by: str | None = None
    has_authority: bool = False
    only_by_command: bool = False
    only_by_dns: bool = False
    identities: tuple[str, ...] = ()
    token_library: str | None = None
    certificate_file: str | None = None
    has_ticket: bool = False


def reason_for_ssh(hops: Sequence[HopFacts]) -> str | None:
    """Return why the system's ssh is needed; None if fabric will do."""
    return next((reason for hop in hops if (reason := _reason(hop))), None)


def _reason(hop: HopFacts) -> str | None:
    if hop.has_live_master:
        return f"a live ControlMaster for {hop.host}"
    if hop.connects_by is not None:
        return f"{hop.connects_by} for {hop.host}"
    if hop.has_authority:
        return f"the host key of {hop.host} may be certified by a @cert-authority"
    if hop.only_by_command:
        return f"the host key of {hop.host} is known to a KnownHostsCommand only"
    if hop.only_by_dns:
        return f"the host key of {hop.host} is known to the DNS only (VerifyHostKeyDNS)"
    if hop.token_library is not None:
        return f"the key for {hop.host} is on a token (PKCS11Provider {hop.token_library})"
    if hop.identities and all(kind.startswith("sk-") for kind in hop.identities):
        return f"the only key for {hop.host} is a FIDO key"
    if hop.certificate_file is not None:
        return f"a certificate for {hop.host} ({hop.certificate_file})"
    if hop.has_ticket:
        return f"a Kerberos ticket, and GSSAPIAuthentication for {hop.host}"
    return None
