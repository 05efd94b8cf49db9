"""A user's ssh configuration, looked up for a host.

The system's own `ssh -G` answers where it exists: it knows Include, Match, tokens and whatever the
next OpenSSH adds. Elsewhere paramiko's parser does (`parsed_config`).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from envsync.ssh.account import Home
from envsync.ssh.config_values import ConfigValues
from envsync.ssh.host_settings import HostSettings
from envsync.ssh.parsed_config import literal_hosts, parsed_values, unreadable
from envsync.ssh.programs import ask_program
from envsync.ssh.session import Address


class UserConfig:
    """The ssh configuration of the user whose HOME is in `environ`.

    OpenSSH itself takes the home directory from the password database and ignores HOME. Where the
    two differ, HOME takes precedence here, and `-F` tells `ssh` so.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ
        self._home = Home.of(environ)
        self.config_file = self._home.path / ".ssh" / "config"
        # OpenSSH's programs refuse to run for a user who is not in the password database.
        path = environ.get("PATH") if self._home.account is not None else ""
        self.ssh_command = shutil.which("ssh", path=path)
        self.keygen_command = shutil.which("ssh-keygen", path=path)

    def file_arguments(self) -> list[str]:
        """Return the `-F` that makes `ssh` read this user's file; empty if it does so by itself."""
        if not self._home.differs:
            return []
        return ["-F", str(self.config_file) if os.access(self.config_file, os.R_OK) else "none"]

    def host_names(self) -> list[str]:
        """Return the names of `Host` lines that are no patterns; none if the file is unreadable."""
        return literal_hosts(self.config_file)

    def lookup(self, address: Address) -> HostSettings:
        """Return the settings to reach a host; raises `ConnectionFailed` for unreadable files."""
        if self.ssh_command is not None:
            values = self._ask_ssh(address)
        else:
            values = self._ask_paramiko(address)
        return ConfigValues(address, values, self._home, self.environ).settings()

    def _ask_ssh(self, address: Address) -> dict[str, list[str]]:
        argv = [str(self.ssh_command), "-G", *self.file_arguments()]
        if address.user is not None:
            argv += ["-l", address.user]
        if address.port is not None:
            argv += ["-p", str(address.port)]
        if address.jump is not None:
            argv += ["-o", f"ProxyJump={address.jump}"]
        try:
            done = ask_program([*argv, "--", address.host], self.environ)
        except TimeoutError as error:
            raise unreadable(address.host, f"{error}: does a `Match exec` hang?") from error
        except OSError as error:
            raise unreadable(address.host, str(error)) from error
        if done.returncode != 0:
            raise unreadable(address.host, os.fsdecode(done.stderr))
        values: dict[str, list[str]] = {}
        for line in os.fsdecode(done.stdout).split("\n"):
            key, _, value = line.partition(" ")
            values.setdefault(key.lower(), []).append(value)
        for key in ("userknownhostsfile", "globalknownhostsfile"):
            values[key] = [name for value in values.get(key, []) for name in self._split(value)]
        return values

    def _split(self, value: str) -> list[str]:
        """Return the file names in a value: `ssh -G` prints several on one line, unquoted.

        Words that together name an existing file are taken for one name with blanks in it.
        """
        words = value.split(" ")
        names = []
        while words:
            together = (n for n in range(len(words), 1, -1) if self._is_there(words[:n]))
            count = next(together, 1)
            names.append(" ".join(words[:count]))
            del words[:count]
        return [name for name in names if name]

    def _is_there(self, words: Sequence[str]) -> bool:
        return os.access(self._home.moved(" ".join(words)), os.F_OK)

    def _ask_paramiko(self, address: Address) -> dict[str, list[str]]:
        insisted = []
        if address.user is not None:
            insisted.append(f"User {address.user}")
        if address.port is not None:
            insisted.append(f"Port {address.port}")
        if address.jump is not None:
            insisted.append(f"ProxyJump {address.jump}")
        files = [self.config_file]
        if not self._home.differs:
            files.append(Path("/etc/ssh/ssh_config"))
        values = parsed_values(address.host, insisted, files, self._home.path)
        # paramiko has expanded their `~` to this process's HOME.
        identities = values.get("identityfile", [])
        values["identityfile"] = [self._home.moved_from(Path.home(), name) for name in identities]
        return values
