"""What the ssh configuration says about a host.

The system's own `ssh -G` answers where it exists: it knows Include, Match, tokens and
whatever the next OpenSSH adds. Elsewhere paramiko's parser does (`parsed_config`).
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import socket
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from envsync.ssh.parsed_config import parsed_values, unreadable
from envsync.ssh.session import Reached

_GLOBAL_KNOWN_HOSTS = ("/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2")
_USER_KNOWN_HOSTS = ("~/.ssh/known_hosts", "~/.ssh/known_hosts2")
_IDENTITIES = ("~/.ssh/id_rsa", "~/.ssh/id_ecdsa", "~/.ssh/id_ed25519")
_QUERY_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Destination:
    """A host as someone named it, with what they insisted on."""

    host: str
    user: str | None = None
    port: int | None = None
    jump: str | None = None
    identity_file: Path | None = None


NO_AGENT = "none"
"""As an `IdentityAgent`: no agent is asked, not even that of SSH_AUTH_SOCK."""


@dataclass(frozen=True, slots=True)
class HostSettings:
    """Everything that is needed to reach one host, after the configuration was asked."""

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
    # The one that somebody insisted on; it is the first of `identity_files`, too.
    given_identity: Path | None = None
    control_path: Path | None = None
    control_master: str | None = None
    pkcs11_provider: str | None = None
    certificate_files: tuple[Path, ...] = ()
    gssapi: bool = False
    # "yes", or the path or `$VARIABLE` of an agent's socket; None where none is forwarded.
    forward_agent: str | None = None
    remote_command: str | None = None

    @property
    def reached(self) -> Reached:
        """The same for who is not of this layer."""
        return Reached(self.alias, self.hostname, self.user, self.port)

    @property
    def text(self) -> str:
        """For a person: `alice@gpu02.lab.example:2222`."""
        return f"{self.user}@{self.endpoint}"

    @property
    def endpoint(self) -> str:
        """For a person, without the user: `gpu02.lab.example`, `[::1]:2222`."""
        if self.port == 22:
            return self.hostname
        name = f"[{self.hostname}]" if ":" in self.hostname else self.hostname
        return f"{name}:{self.port}"


class UserConfig:
    """The ssh configuration of one user: the one whose HOME the environment names.

    OpenSSH itself takes the home directory from the password database and ignores
    HOME. Where the two differ, HOME wins here, and `ssh` is told so by `-F`.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ
        account = _account_home()
        self.home = Path(environ.get("HOME") or account or "/")
        self.home_differs = account is None or self.home != account
        self._account_home = account
        self.ssh_command = shutil.which("ssh", path=environ.get("PATH"))
        # OpenSSH's programs refuse to run for a user whom the password database does not have.
        keygen = shutil.which("ssh-keygen", path=environ.get("PATH"))
        self.keygen_command = None if account is None else keygen

    @property
    def config_file(self) -> Path:
        return self.home / ".ssh" / "config"

    def file_arguments(self) -> list[str]:
        """The `-F` that makes `ssh` read this user's file, where it would not by itself."""
        if not self.home_differs:
            return []
        return ["-F", str(self.config_file) if os.access(self.config_file, os.R_OK) else "none"]

    def lookup(self, destination: Destination) -> HostSettings:
        """Raises `ConnectionFailed` where the configuration cannot be read."""
        if self.ssh_command and self._account_home is not None:
            values = self._ask_ssh(destination)
        else:
            values = self._ask_paramiko(destination)
        return self._settings(destination, values)

    def _ask_ssh(self, destination: Destination) -> dict[str, list[str]]:
        argv = [str(self.ssh_command), "-G", *self.file_arguments()]
        if destination.user is not None:
            argv += ["-l", destination.user]
        if destination.port is not None:
            argv += ["-p", str(destination.port)]
        if destination.jump is not None:
            argv += ["-o", f"ProxyJump={destination.jump}"]
        done = _run([*argv, "--", destination.host], self.environ)
        if done.returncode != 0:
            raise unreadable(destination.host, done.stderr)
        values: dict[str, list[str]] = {}
        for line in done.stdout.split("\n"):
            key, _, value = line.partition(" ")
            values.setdefault(key.lower(), []).append(value)
        for key in ("userknownhostsfile", "globalknownhostsfile"):
            values[key] = [name for value in values.get(key, []) for name in self._split(value)]
        return values

    def _split(self, value: str) -> list[str]:
        """The file names in a value: `ssh -G` prints several on one line, unquoted.

        So words that make a file together are taken for one name with blanks in it.
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
        return os.access(self._moved_home(" ".join(words)), os.F_OK)

    def _ask_paramiko(self, destination: Destination) -> dict[str, list[str]]:
        insisted = []
        if destination.user is not None:
            insisted.append(f"User {destination.user}")
        if destination.port is not None:
            insisted.append(f"Port {destination.port}")
        if destination.jump is not None:
            insisted.append(f"ProxyJump {destination.jump}")
        files = [self.config_file]
        if not self.home_differs:
            files.append(Path("/etc/ssh/ssh_config"))
        values = parsed_values(destination.host, insisted, files, self.home)
        # paramiko has expanded their `~`, to the HOME of this process.
        identities = values.get("identityfile", [])
        values["identityfile"] = [_moved(name, Path.home(), self.home) for name in identities]
        return values

    def _settings(self, destination: Destination, values: dict[str, list[str]]) -> HostSettings:
        def one(key: str) -> str | None:
            value = values.get(key, [""])[0].strip()
            return None if value.lower() in ("", "none") else value

        def named_none(key: str) -> bool:
            return values.get(key, [""])[0].strip().lower() == "none"

        hostname = one("hostname") or destination.host
        user = one("user") or _local_user()
        port = int(one("port") or 22)
        alias = one("hostkeyalias")
        tokens = {"h": hostname, "n": destination.host, "r": user, "p": str(port)}
        tokens |= {"k": alias or destination.host, "d": str(self.home)} | _local_tokens()

        def files(key: str, default: Sequence[str]) -> tuple[Path, ...]:
            named = values.get(key) or default
            return self._paths([self._moved_home(name) for name in named], tokens)

        identities = self._paths(values.get("identityfile") or _IDENTITIES, tokens)
        given = None
        if destination.identity_file is not None:
            given = Path(self._tilde(str(destination.identity_file)))
            identities = (given, *(path for path in identities if path != given))
        agent = NO_AGENT if named_none("identityagent") else one("identityagent")
        forwarded = one("forwardagent")
        if forwarded == "no" or (forwarded == "yes" and agent == NO_AGENT):
            forwarded = None
        revoked = one("revokedhostkeys")
        command = one("proxycommand")
        control = one("controlpath")
        return HostSettings(
            alias=destination.host,
            hostname=hostname,
            user=user,
            port=port,
            identity_files=identities,
            identities_only=one("identitiesonly") == "yes",
            identity_agent=None if agent is None else self._expand(agent, tokens),
            jump=one("proxyjump"),
            proxy_command=None if command is None else _fill(command, tokens),
            host_key_alias=alias,
            user_known_hosts=files("userknownhostsfile", _USER_KNOWN_HOSTS),
            global_known_hosts=files("globalknownhostsfile", _GLOBAL_KNOWN_HOSTS),
            revoked_host_keys=None if revoked is None else Path(self._expand(revoked, tokens)),
            known_hosts_command=one("knownhostscommand"),
            given_identity=given,
            # `ssh -G` has expanded its tokens; paramiko's parser does not.
            control_path=None if control is None or "%" in control else Path(control),
            control_master=one("controlmaster"),
            pkcs11_provider=one("pkcs11provider"),
            certificate_files=self._paths(values.get("certificatefile", []), tokens),
            gssapi=one("gssapiauthentication") == "yes",
            forward_agent=forwarded,
            remote_command=one("remotecommand"),
        )

    def _paths(self, names: Sequence[str], tokens: Mapping[str, str]) -> tuple[Path, ...]:
        kept = (name for name in names if name.lower() != "none")
        return tuple(dict.fromkeys(Path(self._expand(name, tokens)) for name in kept))

    def _expand(self, text: str, tokens: Mapping[str, str]) -> str:
        """`~`, `%x` and `${NAME}`."""
        text = _fill(self._tilde(text), tokens)
        return re.sub(r"\$\{(\w+)\}", lambda found: self.environ.get(found[1], ""), text)

    def _tilde(self, text: str) -> str:
        return str(self.home) + text[1:] if text == "~" or text.startswith("~/") else text

    def _moved_home(self, text: str) -> str:
        """`ssh -G` has expanded the `~` of known_hosts files already, and not to HOME."""
        return text if self._account_home is None else _moved(text, self._account_home, self.home)


def _local_tokens() -> dict[str, str]:
    name = socket.gethostname()
    return {
        "%": "%", "u": _local_user(), "i": str(os.getuid()), "l": name,
        "L": name.partition(".")[0],
    }  # fmt: skip


def _moved(text: str, old_home: Path, new_home: Path) -> str:
    old = f"{old_home}/.ssh/"
    return f"{new_home}/.ssh/{text[len(old) :]}" if text.startswith(old) else text


def _fill(text: str, tokens: Mapping[str, str]) -> str:
    return re.sub(r"%(.)", lambda found: tokens.get(found[1], found[0]), text)


def _run(argv: Sequence[str], environ: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            argv,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            encoding="utf-8",
            errors="surrogateescape",
            timeout=_QUERY_SECONDS,
        )
    except subprocess.TimeoutExpired:
        said = f"no answer for {_QUERY_SECONDS:g} seconds: does a `Match exec` hang?"
    except OSError as error:
        said = str(error)
    return subprocess.CompletedProcess(list(argv), 255, "", said)


def _account_home() -> Path | None:
    try:
        return Path(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError:
        return None


def _local_user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return os.environ.get("USER", "")
