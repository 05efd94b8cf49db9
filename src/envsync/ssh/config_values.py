"""Expands the values of an ssh configuration: `~`, `%x` and `${NAME}`."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

from envsync.ssh import account
from envsync.ssh.account import Home
from envsync.ssh.host_settings import NO_AGENT, Algorithms, HostSettings
from envsync.ssh.session import Address

_GLOBAL_KNOWN_HOSTS = ("/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2")
_USER_KNOWN_HOSTS = ("~/.ssh/known_hosts", "~/.ssh/known_hosts2")
_IDENTITIES = ("~/.ssh/id_rsa", "~/.ssh/id_ecdsa", "~/.ssh/id_ed25519")


class ConfigValues:
    """The values for one host, as lists by their names in lower case."""

    def __init__(
        self,
        address: Address,
        values: Mapping[str, Sequence[str]],
        home: Home,
        environ: Mapping[str, str],
    ) -> None:
        self._address = address
        self._values = values
        self._home = home
        self._environ = environ
        self._hostname = self._one("hostname") or address.host
        self._user = self._one("user") or account.login_name()
        self._port = int(self._one("port") or 22)
        self._alias = self._one("hostkeyalias")
        self._tokens = {
            **_local_tokens(),
            "h": self._hostname,
            "n": address.host,
            "r": self._user,
            "p": str(self._port),
            "k": self._alias or address.host,
            "d": str(home.path),
        }

    def settings(self) -> HostSettings:
        """Return everything needed to reach the host; what the user insisted on wins."""
        given, identities = self._identities()
        agent = NO_AGENT if self._is_none("identityagent") else self._one("identityagent")
        revoked = self._one("revokedhostkeys")
        command = self._one("proxycommand")
        control = self._one("controlpath")
        jump = self._one("proxyjump")
        return HostSettings(
            alias=self._address.host,
            hostname=self._hostname,
            user=self._user,
            port=self._port,
            identity_files=identities,
            identities_only=self._one("identitiesonly") == "yes",
            identity_agent=None if agent is None else self._expanded(agent),
            # Like the command, `ssh -G` prints it with its tokens.
            jump=None if jump is None else self._filled(jump),
            proxy_command=None if command is None else self._filled(command),
            host_key_alias=self._alias,
            user_known_hosts=self._known_hosts("userknownhostsfile", _USER_KNOWN_HOSTS),
            global_known_hosts=self._known_hosts("globalknownhostsfile", _GLOBAL_KNOWN_HOSTS),
            revoked_host_keys=None if revoked is None else Path(self._expanded(revoked)),
            known_hosts_command=self._one("knownhostscommand"),
            given_user=self._address.user,
            given_port=self._address.port,
            given_identity=given,
            # `ssh -G` expands the tokens in it; paramiko's parser does not.
            control_path=None if control is None or "%" in control else Path(control),
            control_master=self._one("controlmaster"),
            pkcs11_provider=self._one("pkcs11provider"),
            certificate_files=self._paths(self._values.get("certificatefile", [])),
            gssapi=self._one("gssapiauthentication") == "yes",
            forward_agent=self._forwarded(agent),
            remote_command=self._one("remotecommand"),
            address_family=(self._one("addressfamily") or "any").lower(),
            bind_address=self._one("bindaddress"),
            bind_interface=self._one("bindinterface"),
            proxy_passes_socket=self._one("proxyusefdpass") == "yes",
            # `ssh -G` prints "true" where the file has "yes".
            trusts_dns=self._one("verifyhostkeydns") in ("yes", "true"),
            connect_timeout_seconds=self._seconds("connecttimeout"),
            algorithms=Algorithms(
                ciphers=self._one("ciphers"),
                macs=self._one("macs"),
                key_exchanges=self._one("kexalgorithms"),
                host_keys=self._one("hostkeyalgorithms"),
            ),
        )

    def _first(self, key: str) -> str:
        return self._values.get(key, [""])[0].strip()

    def _one(self, key: str) -> str | None:
        value = self._first(key)
        return None if value.lower() in ("", "none") else value

    def _seconds(self, key: str) -> float:
        """Return a time in seconds as `ssh -G` prints it; 0 for `2m`, left as it is by paramiko."""
        value = self._first(key)
        return float(value) if value.isdecimal() else 0.0

    def _is_none(self, key: str) -> bool:
        """Return whether the value is an explicit "none" rather than missing."""
        return self._first(key).lower() == "none"

    def _identities(self) -> tuple[Path | None, tuple[Path, ...]]:
        """Return the identity that the user insisted on, and all identities, that one first."""
        identities = self._paths(self._values.get("identityfile") or _IDENTITIES)
        if self._address.identity_file is None:
            return None, identities
        given = Path(self._home.tilde(str(self._address.identity_file)))
        return given, (given, *(path for path in identities if path != given))

    def _forwarded(self, agent: str | None) -> str | None:
        forwarded = self._one("forwardagent")
        is_none = forwarded == "no" or (forwarded == "yes" and agent == NO_AGENT)
        return None if is_none else forwarded

    def _known_hosts(self, key: str, default: Sequence[str]) -> tuple[Path, ...]:
        return self._paths([self._home.moved(name) for name in self._values.get(key) or default])

    def _paths(self, names: Sequence[str]) -> tuple[Path, ...]:
        file_names = (name for name in names if name.lower() != "none")
        return tuple(dict.fromkeys(Path(self._expanded(name)) for name in file_names))

    def _expanded(self, text: str) -> str:
        """Return `text` with `~`, `%x` and `${NAME}` expanded."""
        text = self._filled(self._home.tilde(text))
        return re.sub(r"\$\{(\w+)\}", lambda match: self._environ.get(match[1], ""), text)

    def _filled(self, text: str) -> str:
        return re.sub(r"%(.)", lambda match: self._tokens.get(match[1], match[0]), text)


def _local_tokens() -> dict[str, str]:
    name = socket.gethostname()
    return {
        "%": "%", "u": account.login_name(), "i": str(os.getuid()), "l": name,
        "L": name.partition(".")[0],
    }  # fmt: skip
