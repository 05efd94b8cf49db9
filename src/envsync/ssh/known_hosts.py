"""The lines of known_hosts files about a host.

`ssh-keygen -F`, where it exists, finds them (hashed names, patterns, ports); elsewhere they are
matched here. Nothing is ever added to known_hosts.
"""

from __future__ import annotations

import base64
import binascii
import fnmatch
import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from paramiko.hostkeys import HostKeys

from envsync.ssh import refusals
from envsync.ssh.host_settings import HostSettings
from envsync.ssh.programs import ask_program
from envsync.ssh.ssh_config import UserConfig

REVOKED, AUTHORITY = "@revoked", "@cert-authority"


@dataclass(frozen=True, slots=True)
class KnownKey:
    """One line of a known_hosts file that names the host; `line` is its number, if known."""

    algorithm: str
    blob: bytes
    marker: str
    file: str
    line: str = ""
    # The line names the host, but not the port.
    by_host_only: bool = False

    @property
    def fingerprint(self) -> str:
        digest = base64.b64encode(hashlib.sha256(self.blob).digest()).decode().rstrip("=")
        return f"SHA256:{digest}"

    @property
    def where(self) -> str:
        """The line as an editor opens it: `file:line`."""
        return f"{self.file}:{self.line}" if self.line else self.file


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
        known_algorithms = {key.algorithm for key in self.trusted}
        if "ssh-rsa" in known_algorithms:
            known_algorithms |= {"rsa-sha2-512", "rsa-sha2-256"}
        return tuple(sorted(algorithms, key=lambda name: name not in known_algorithms))


def known_hosts(settings: HostSettings, config: UserConfig) -> KnownHosts:
    """Return what all the known_hosts files say about the host.

    As in OpenSSH, a key of the plain host counts if no other is known under `[host]:port`, but it
    does not prove that the key at that port has changed. Its revocations and authorities count.
    """
    name, *more = settings.known_hosts_names
    keys = _keys_of(name, settings, config)
    for other in more:
        others = _keys_of(other, settings, config)
        named = any(not key.marker for key in keys)
        keys += tuple(replace(key, by_host_only=True) for key in others if key.marker or not named)
    return KnownHosts(name, keys, _unasked(settings))


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
    for number, line in numbered:
        key = _parse(line, str(file), number)
        if key is not None:
            yield key


def _found_by_keygen(command: str, name: str, file: Path) -> Iterator[tuple[str, str]]:
    """Yield each line about the host, with its number."""
    try:
        done = ask_program([command, "-F", name, "-f", str(file)])
    except OSError as error:
        raise refusals.known_hosts_unreadable(str(file), str(error)) from error
    # Status 1 is "not found". Any other is an error, because the unread file may hold a revocation.
    if done.returncode not in (0, 1):
        raise refusals.known_hosts_unreadable(str(file), done.stderr.decode(errors="replace"))
    number = ""
    for line in _lines(done.stdout):
        if line.startswith("#"):
            after = line.rpartition("line ")[2].split()
            number = after[0] if after else ""
        else:
            yield number, line


def _lines(content: bytes) -> list[str]:
    """Return the lines as OpenSSH splits them: only at newlines, not within someone's comment."""
    return content.decode("utf-8", "replace").split("\n")


def _matching(name: str, file: Path) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(_lines(file.read_bytes()), 1):
        fields = line.split()
        if fields and fields[0].startswith("@"):
            del fields[0]
        if len(fields) >= 3 and not line.startswith("#") and _is_about(name, fields[0]):
            yield str(number), line


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


def _parse(line: str, file: str, number: str) -> KnownKey | None:
    fields = line.split()
    marker = fields.pop(0) if fields and fields[0].startswith("@") else ""
    if len(fields) < 3:
        return None
    try:
        blob = base64.b64decode(fields[2], validate=True)
    except binascii.Error:
        return None
    return KnownKey(fields[1], blob, marker, file, number)
