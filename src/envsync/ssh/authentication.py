"""Public-key authentication by the agent's keys and the identity files, in ssh's order.

It never prompts for a password or a passphrase. A file that needs one is left to the agent.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from paramiko import PKey, Transport
from paramiko.pkey import UnknownKeyType
from paramiko.ssh_exception import (
    AuthenticationException,
    BadAuthenticationType,
    SSHException,
)

from envsync.ssh import connection_errors, identities, refusals
from envsync.ssh.hop_place import HopPlace
from envsync.ssh.paramiko_internals import SshAgent, SshAgentKey, last_banner

_LINES_SHOWN = 5


@dataclass(slots=True)
class PublicKeys:
    """An authentication strategy for `SSHClient.connect` that records what it tried."""

    place: HopPlace
    environ: Mapping[str, str]
    timeout_seconds: float
    tried: list[str] = field(default_factory=list)
    locked: list[str] = field(default_factory=list)
    allowed: list[str] = field(default_factory=list)

    def authenticate(self, transport: Transport) -> None:
        """Log in.

        Raises `AuthenticationRefused`, or `ConnectionFailed` if it takes too long or the server
        hangs up.
        """
        deadline = time.monotonic() + self.timeout_seconds
        socket_path = self.place.settings.agent_socket(self.environ)
        with contextlib.closing(SshAgent(socket_path, self.timeout_seconds)) as agent:
            for name, key in self._candidates(agent, transport):
                self._limit(transport, deadline)
                if self._offer(transport, name, key):
                    return
                if self.allowed and "publickey" not in self.allowed:
                    break
        self._limit(transport, deadline)
        methods = self._accepted_methods(transport)
        if transport.is_authenticated():
            return
        allowed = self.allowed or methods
        raise refusals.authentication_refused(
            self.place, self.tried, self.locked, allowed, has_agent=agent.has_answered
        )

    def _accepted_methods(self, transport: Transport) -> list[str]:
        """Return the authentication methods that the server accepts; empty if unknown.

        This logs in where the server asks for nothing: Tailscale's ssh, or an empty password.
        """
        try:
            transport.auth_none(self.place.settings.user)
        except BadAuthenticationType as error:
            return list(error.allowed_types)
        except (SSHException, EOFError, OSError) as error:
            self._raise_if_too_slow(error)
        return []

    def _offer(self, transport: Transport, name: str, key: PKey) -> bool:
        self.tried.append(name)
        try:
            self.allowed = list(transport.auth_publickey(self.place.settings.user, key))
        except BadAuthenticationType as error:
            self.allowed = list(error.allowed_types)
        except (SSHException, EOFError, OSError) as error:
            self._raise_if_too_slow(error)
            if not transport.is_active():
                words = last_banner(transport)[-_LINES_SHOWN:]
                if words:
                    raise refusals.account_refused(self.place, words) from error
                if len(self.tried) > 1:
                    raise refusals.too_many_keys(self.place, self.tried) from error
                raise connection_errors.closed_during_login(self.place) from error
            if not isinstance(error, AuthenticationException):
                self.tried[-1] += f" ({error})"
        if isinstance(key, SshAgentKey) and key.refusal:
            self.tried[-1] += f" (its agent does not sign: {key.refusal})"
        return transport.is_authenticated()

    def _limit(self, transport: Transport, deadline: float) -> None:
        """Give the next question to the server the time that is left."""
        transport.auth_timeout = deadline - time.monotonic()
        if transport.auth_timeout <= 0:
            raise self._too_slow()

    def _raise_if_too_slow(self, error: Exception) -> None:
        if "timeout" in str(error).lower():
            raise self._too_slow() from error

    def _too_slow(self) -> Exception:
        return connection_errors.timed_out(
            self.place, "finish the authentication", self.timeout_seconds
        )

    def _candidates(self, agent: SshAgent, transport: Transport) -> Iterator[tuple[str, PKey]]:
        """Yield the keys with their names, in OpenSSH's order.

        That is: agent keys that the configuration names, other agent keys (unless IdentitiesOnly),
        files.
        """
        settings = self.place.settings
        usable = {*transport.preferred_pubkeys, "ssh-rsa"}
        in_agent = [key for key in agent.get_keys() if key.get_name() in usable]
        blobs = {path: identities.public_blob(path) for path in settings.identity_files}
        named = [key for blob in blobs.values() for key in in_agent if key.asbytes() == blob]
        others = [] if settings.identities_only else [k for k in in_agent if k not in named]
        for key in (*named, *others):
            yield f"agent key {key.comment or key.fingerprint}", key
        agent_blobs = {key.asbytes() for key in in_agent}
        for path in settings.identity_files:
            if blobs[path] is None or blobs[path] not in agent_blobs:
                loaded = self._load(path)
                if loaded is not None:
                    yield str(path), loaded

    def _load(self, path: Path) -> PKey | None:
        try:
            return PKey.from_path(path)
        except TypeError:
            # cryptography raises this for a file that needs a passphrase.
            self.locked.append(str(path))
        except FileNotFoundError:
            pass
        # UnsupportedAlgorithm is a FIDO key's, for instance: its file alone cannot log in.
        except (
            ValueError, UnknownKeyType, SSHException, OSError, UnsupportedAlgorithm
        ) as error:  # fmt: skip
            if path.suffix != ".pub":
                self.tried.append(f"{path} (cannot be used: {error})")
        return None
