"""Known host keys, and whether the key that a host offers is among them.

`ssh-keygen -F`, where it exists, finds the lines (hashed names, patterns, ports); elsewhere they
are matched here. Nothing is ever added to known_hosts.
"""

from __future__ import annotations

import base64
import binascii
import fnmatch
import hashlib
import os
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from paramiko import MissingHostKeyPolicy, PKey, SSHClient
from paramiko.hostkeys import HostKeys
from paramiko.ssh_exception import SSHException

from envsync.ssh import refusals
from envsync.ssh.host_settings import HostSettings
from envsync.ssh.place import Place
from envsync.ssh.ssh_config import UserConfig

_QUERY_SECONDS = 15.0
_KRL_MAGIC = b"SSHKRL\n\0"
REVOKED, AUTHORITY = "@revoked", "@cert-authority"


@dataclass(frozen=True, slots=True)
class KnownKey:
    """One line of a known_hosts file that names the host."""

    algorithm: str
    blob: bytes
    marker: str
    where: str
    # The line names the host, but not the port.
    by_host_only: bool = False

    @property
    def file(self) -> str:
        """The file name, without the line number."""
        name, _, number = self.where.rpartition(":")
        return name if number.isdecimal() else self.where


@dataclass(frozen=True, slots=True)
class KnownHosts:
    """The lines about one host; `name` is the host as the files spell it."""

    name: str
    keys: tuple[KnownKey, ...] = ()
    # Sources that might know the host but could not be asked, worded for a person.
    unasked: tuple[str, ...] = ()

    @property
    def trusted(self) -> tuple[KnownKey, ...]:
        return tuple(key for key in self.keys if not key.marker)

    @property
    def revoked(self) -> tuple[KnownKey, ...]:
        return tuple(key for key in self.keys if key.marker == REVOKED)

    @property
    def has_authority(self) -> bool:
        return any(key.marker == AUTHORITY for key in self.keys)

    def preferred(self, algorithms: Sequence[str]) -> tuple[str, ...]:
        """Return `algorithms` with those of known keys first, the order in which OpenSSH asks.

        Otherwise a server with several keys would offer one that is not in the file.
        """
        known = {key.algorithm for key in self.trusted}
        if "ssh-rsa" in known:
            known |= {"rsa-sha2-512", "rsa-sha2-256"}
        return tuple(sorted(algorithms, key=lambda name: name not in known))


def known_hosts(settings: HostSettings, config: UserConfig) -> KnownHosts:
    """Return what all the known_hosts files say about the host.

    As in OpenSSH, a key of the plain host counts if no other is known under `[host]:port`, but it
    does not prove that the key at that port has changed. Its revocations and authorities count.
    """
    name, *more = _names(settings)
    keys = _keys_of(name, settings, config)
    for other in more:
        found = _keys_of(other, settings, config)
        named = any(not key.marker for key in keys)
        keys += tuple(replace(key, by_host_only=True) for key in found if key.marker or not named)
    return KnownHosts(name, keys, _unasked(settings))


def _names(settings: HostSettings) -> tuple[str, ...]:
    """Return the names to look up, in order: an alias alone, or `[host]:port` and then the host.

    OpenSSH does the same; for port 22 there is only the host.
    """
    if settings.host_key_alias is not None:
        return (settings.host_key_alias,)
    host = settings.hostname.lower()
    return (host,) if settings.port == 22 else (f"[{host}]:{settings.port}", host)


def _keys_of(name: str, settings: HostSettings, config: UserConfig) -> tuple[KnownKey, ...]:
    return tuple(
        key
        for file in _files(settings)
        # As in OpenSSH, a file that this user cannot read does not count.
        if os.access(file, os.R_OK) and file.is_file()
        for key in _lines_about(name, file, config)
    )


def _files(settings: HostSettings) -> tuple[Path, ...]:
    return (*settings.user_known_hosts, *settings.global_known_hosts)


def _unasked(settings: HostSettings) -> tuple[str, ...]:
    unasked = [
        f"{file} exists, but is not readable by this user"
        for file in _files(settings)
        if os.access(file, os.F_OK) and not os.access(file, os.R_OK)
    ]
    if settings.known_hosts_command is not None:
        unasked.append("the KnownHostsCommand of the ssh configuration is not run")
    return tuple(unasked)


def _lines_about(name: str, file: Path, config: UserConfig) -> Iterator[KnownKey]:
    if config.keygen_command is None:
        numbered = _matching(name, file)
    else:
        numbered = _found_by_keygen(config.keygen_command, name, file)
    for where, line in numbered:
        key = _parse(line, where)
        if key is not None:
            yield key


def _found_by_keygen(command: str, name: str, file: Path) -> Iterator[tuple[str, str]]:
    try:
        done = subprocess.run(
            [command, "-F", name, "-f", str(file)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=_QUERY_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise refusals.known_hosts_unreadable(str(file), str(error)) from error
    # Status 1 is "not found". Any other is an error, because the unread file may hold a revocation.
    if done.returncode not in (0, 1):
        raise refusals.known_hosts_unreadable(str(file), done.stderr.decode(errors="replace"))
    where = str(file)
    for line in _lines(done.stdout):
        if line.startswith("#"):
            number = line.rpartition("line ")[2].split()
            where = f"{file}:{number[0]}" if number else str(file)
        else:
            yield where, line


def _lines(content: bytes) -> list[str]:
    """Return the lines as OpenSSH splits them: only at newlines, not within someone's comment."""
    return content.decode("utf-8", "replace").split("\n")


def _matching(name: str, file: Path) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(_lines(file.read_bytes()), 1):
        fields = line.split()
        if fields and fields[0].startswith("@"):
            del fields[0]
        if len(fields) >= 3 and not line.startswith("#") and _is_about(name, fields[0]):
            yield f"{file}:{number}", line


def _is_about(name: str, patterns: str) -> bool:
    """Return whether a line's first field, hashed or a list of patterns, matches the host."""
    if patterns.startswith("|1|"):
        try:
            return HostKeys.hash_host(name, patterns) == patterns
        except (ValueError, AssertionError):
            return False
    matched = False
    for pattern in patterns.split(","):
        negated = pattern.startswith("!")
        # Brackets are part of "[host]:port" here, not a character class.
        escaped = pattern.lstrip("!").replace("[", "[[]").lower()
        if fnmatch.fnmatchcase(name.lower(), escaped):
            if negated:
                return False
            matched = True
    return matched


def _parse(line: str, where: str) -> KnownKey | None:
    fields = line.split()
    marker = fields.pop(0) if fields and fields[0].startswith("@") else ""
    if len(fields) < 3:
        return None
    try:
        return KnownKey(fields[1], base64.b64decode(fields[2], validate=True), marker, where)
    except binascii.Error:
        return None


@dataclass(slots=True)
class RefuseUnlessKnown(MissingHostKeyPolicy):
    """Lets a connection continue only with a key that known_hosts has for the host.

    It is asked about every key because the client itself is given none: paramiko's own comparison
    knows only one key of each type per host, and no markers.
    """

    place: Place
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
            known = [line for line in named if line.algorithm == kind] or named
            raise refusals.changed_host_key(
                self.place, self.known.name, offered,
                [f"{line.algorithm} {_fingerprint(line.blob)} in {line.where}" for line in known],
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
            done = subprocess.run(
                [self.config.keygen_command, "-Q", "-f", str(file), "/dev/stdin"],
                input=f"{key.get_name()} {key.get_base64()}\n".encode(),
                capture_output=True,
                check=False,
                timeout=_QUERY_SECONDS,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            refused = refusals.known_hosts_unreadable(str(file), str(error))
            refused.server = self.place.server
            raise refused from error
        return done.returncode != 0


def _fingerprint(blob: bytes) -> str:
    digest = base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")
    return f"SHA256:{digest}"
