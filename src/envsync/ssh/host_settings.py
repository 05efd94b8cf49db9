"""The settings to reach a host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from envsync.ssh.session import Reached

NO_AGENT = "none"
"""The value of `IdentityAgent` for which no agent is asked, not even that of SSH_AUTH_SOCK."""
SESSIONS_AGENT = "SSH_AUTH_SOCK"
"""The value of `IdentityAgent` that means the agent of SSH_AUTH_SOCK, as None does."""


@dataclass(frozen=True, slots=True)
class Algorithms:
    """The allowed algorithms, as lists of ssh_config; None where the configuration says nothing."""

    ciphers: str | None = None
    macs: str | None = None
    key_exchanges: str | None = None
    host_keys: str | None = None


@dataclass(frozen=True, slots=True)
class HostSettings:
    """Everything needed to reach one host, after the configuration was read."""

    alias: str
    hostname: str
    user: str
    port: int
    identity_files: tuple[Path, ...] = ()
    identities_only: bool = False
    identity_agent: str | None = None
    jump: str | None = None
    proxy_command: str | None = None
    host_key_alias: str | None = None
    user_known_hosts: tuple[Path, ...] = ()
    global_known_hosts: tuple[Path, ...] = ()
    revoked_host_keys: Path | None = None
    known_hosts_command: str | None = None
    # What the user insisted on; this identity is also the first of `identity_files`.
    given_user: str | None = None
    given_port: int | None = None
    given_identity: Path | None = None
    control_path: Path | None = None
    control_master: str | None = None
    pkcs11_provider: str | None = None
    certificate_files: tuple[Path, ...] = ()
    gssapi: bool = False
    # "yes", or the path or `$VARIABLE` of an agent's socket; None if no agent is forwarded.
    forward_agent: str | None = None
    remote_command: str | None = None
    address_family: str = "any"
    bind_address: str | None = None
    bind_interface: str | None = None
    # The ProxyCommand passes a connected socket and carries no data itself.
    proxy_passes_socket: bool = False
    trusts_dns: bool = False
    connect_timeout_seconds: float = 0.0
    algorithms: Algorithms = Algorithms()

    @property
    def reached(self) -> Reached:
        """What the layers above may know of this host."""
        return Reached(
            self.alias, self.hostname, self.user, self.port, self.jump, self.given_identity
        )

    @property
    def known_hosts_names(self) -> tuple[str, ...]:
        """The names to look up in known_hosts: an alias alone, or `[host]:port` and then the host.

        OpenSSH does the same; for port 22 there is only the host.
        """
        if self.host_key_alias is not None:
            return (self.host_key_alias,)
        host = self.hostname.lower()
        return (host,) if self.port == 22 else (f"[{host}]:{self.port}", host)

    def agent_socket(self, environ: Mapping[str, str]) -> str | None:
        """Return the socket of the agent whose keys are offered there, or None for no agent."""
        if self.identity_agent == NO_AGENT:
            return None
        if self.identity_agent in (None, SESSIONS_AGENT):
            return environ.get("SSH_AUTH_SOCK") or None
        return _socket(self.identity_agent, environ)

    def forwarded_agent_socket(self, environ: Mapping[str, str]) -> str | None:
        """Return the socket of the agent that is to be forwarded there, or None for no agent."""
        if self.forward_agent == "yes":
            return self.agent_socket(environ)
        return None if self.forward_agent is None else _socket(self.forward_agent, environ)

    @property
    def endpoint(self) -> str:
        """The host and port for a person, without the user: `gpu02.lab.example`, `[::1]:2222`."""
        if self.port == 22:
            return self.hostname
        name = f"[{self.hostname}]" if ":" in self.hostname else self.hostname
        return f"{name}:{self.port}"


def _socket(named: str, environ: Mapping[str, str]) -> str | None:
    return environ.get(named[1:]) if named.startswith("$") else named
