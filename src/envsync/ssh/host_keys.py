"""Whether the key that a host offers may be accepted."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from paramiko import MissingHostKeyPolicy, PKey, SSHClient
from paramiko.ssh_exception import SSHException

from envsync.ssh import refusals
from envsync.ssh.hop_place import HopPlace
from envsync.ssh.known_hosts import KnownHosts
from envsync.ssh.programs import ask_program
from envsync.ssh.ssh_config import UserConfig

_KRL_MAGIC = b"SSHKRL\n\0"


@dataclass(slots=True)
class RefuseUnlessKnown(MissingHostKeyPolicy):
    """Lets a connection continue only with a key that known_hosts has for the host.

    It is asked about every key because the client itself is given none: paramiko's own comparison
    knows only one key of each type per host, and no markers.
    """

    place: HopPlace
    known: KnownHosts
    config: UserConfig
    # The fingerprint of the accepted key; None until a key was compared and accepted.
    accepted: str | None = field(default=None, init=False)

    def missing_host_key(self, client: SSHClient, hostname: str, key: PKey) -> None:  # noqa: ARG002
        blob = key.asbytes()
        kind = key.get_name()
        fingerprint = key.fingerprint
        offered = f"{kind} {fingerprint}"
        for line in self.known.revoked:
            if line.blob == blob:
                raise refusals.revoked_host_key(self.place, offered, line.where)
        self._refuse_if_in_revocation_list(key, offered)
        if any(line.blob == blob for line in self.known.trusted):
            self.accepted = fingerprint
            return
        named = [line for line in self.known.trusted if not line.by_host_only]
        if named:
            old_keys = [line for line in named if line.algorithm == kind] or named
            raise refusals.changed_host_key(
                self.place, self.known.name, offered,
                [f"{line.algorithm} {line.fingerprint} in {line.where}" for line in old_keys],
                {line.file for line in named},
            )  # fmt: skip
        notes = list(self.known.unasked)
        if self.known.has_authority:
            notes.append("known_hosts has only a certificate authority for it, not checked here")
        raise refusals.unknown_host_key(self.place, kind, fingerprint, notes)

    def insist_on_verdict(self) -> None:
        """Raise unless a key was compared and accepted: a second safeguard."""
        if self.accepted is None:
            raise SSHException("the host key was not checked")

    def _refuse_if_in_revocation_list(self, key: PKey, offered: str) -> None:
        """Refuse a key in `RevokedHostKeys`: a key list, or a KRL that only ssh-keygen can read."""
        file = self.place.settings.revoked_host_keys
        if file is not None and self._is_in_revocation_list(key, file):
            raise refusals.revoked_host_key(self.place, offered, str(file))

    def _is_in_revocation_list(self, key: PKey, file: Path) -> bool:
        """Return whether the list has the key; as in OpenSSH, an unreadable one revokes all."""
        try:
            content = file.read_bytes()
        except OSError:
            return True
        if not content.startswith(_KRL_MAGIC):
            return key.get_base64().encode() in content.split()
        if self.config.keygen_command is None:
            return True
        try:
            done = ask_program(
                [self.config.keygen_command, "-Q", "-f", str(file), "/dev/stdin"],
                given=f"{key.get_name()} {key.get_base64()}\n".encode(),
            )
        except OSError as error:
            refused = refusals.known_hosts_unreadable(str(file), str(error))
            refused.server = self.place.server
            raise refused from error
        return done.returncode != 0
