"""The one place that says what the last words of the system's `ssh` mean.

ssh has one exit status for everything, so its words decide. They have not changed for ten years and
more; unknown ones are reported as they are.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from envsync.errors import ConnectionFailed, EnvsyncError
from envsync.ssh import refusals
from envsync.ssh.connection_errors import (
    HUNG_UP,
    closed_during_login,
    forwarding_forbidden,
    hung_up,
    may_be_dropped,
    no_banner,
    no_common_algorithm,
    not_forwarded,
    not_found,
    not_found_now,
    proxy_failed,
    proxy_may_be_dropped,
    refused,
    silent,
    timed_out,
    unreachable,
    unreached,
)
from envsync.ssh.hop_place import HopPlace
from envsync.ssh.session import Timeouts

_LINES_SHOWN = 5
_DEBUG = re.compile(r"debug\d: ")
_INVALID_CERTIFICATE = re.compile(r"Certificate invalid: (.+)")


@dataclass(frozen=True, slots=True)
class HopLog:
    """What `ssh -v` wrote about one hop: its messages, and the steps that it logged."""

    place: HopPlace
    messages: tuple[str, ...]
    steps: tuple[str, ...]

    @classmethod
    def of(cls, place: HopPlace, lines: Iterable[str]) -> HopLog:
        stripped = [line.strip() for line in lines if line.strip()]
        messages = tuple(line for line in stripped if not _DEBUG.match(line))
        steps = tuple(_DEBUG.sub("", line) for line in stripped if _DEBUG.match(line))
        return cls(place, messages, steps)

    def find(self, pattern: str) -> list[str]:
        """Return the first group of the pattern in each step that matches."""
        matches = (re.search(pattern, line) for line in self.steps)
        return [match[1] for match in matches if match]

    @property
    def heard(self) -> str:
        """What the server sent before any SSH."""
        lines = self.find(r"_exchange_identification: banner line \d+: (.*)")
        return lines[0] if lines else ""

    @property
    def has_authentication_begun(self) -> bool:
        return bool(self.find("^(SSH2_MSG_NEWKEYS received)"))

    @property
    def is_authenticated(self) -> bool:
        return bool(self.find("^(Authenticated to |Authentication succeeded)"))

    @property
    def host_key(self) -> tuple[str, str]:
        """The type and fingerprint of the key that the server offered."""
        offered = self.find(r"^Server host (?:key|certificate): (\S+ SHA256:[^ ,]+)")
        kind, _, fingerprint = (offered or ["(unknown) (unknown)"])[-1].partition(" ")
        return kind.replace("-cert-v01@openssh.com", ""), fingerprint


_Meaning: TypeAlias = Callable[[re.Match[str], HopLog], EnvsyncError]


def meaning(logs: Sequence[HopLog], printed: Sequence[str]) -> EnvsyncError:
    """Return why no connection was made; `printed` is what was printed outside the hops' logs."""
    for log, following in zip(logs, [*logs[1:], None], strict=True):
        onward = "" if following is None else following.place.settings.endpoint
        failed = replace(log, place=replace(log.place, onward=onward, heard=log.heard))
        text = "\n".join(log.messages)
        for pattern, mean in _MEANINGS:
            match = re.search(pattern, text, re.MULTILINE)
            if match is not None:
                return mean(match, failed)
        match = HUNG_UP.search(text)
        if match is not None:
            return _hung_up(failed, match[0], printed[-_LINES_SHOWN:])
    place = logs[-1].place
    last = [*(line for log in logs for line in log.messages), *printed]
    return unreached(
        place,
        "cannot be reached by ssh",
        f"see why: {place.ssh_command}",
        *last[-_LINES_SHOWN:],
    )


def _hung_up(log: HopLog, message: str, printed: Sequence[str]) -> EnvsyncError:
    """Return the error for a closed connection; `printed` may be of another hop, or a proxy."""
    place = log.place
    # sshd asks PAM about the account after the right key; another time it may be restarting.
    if printed and log.find("^(Server accepts key)"):
        return refusals.account_refused(place, printed)
    if log.has_authentication_begun:
        return closed_during_login(place, *(printed or [message]))
    if printed and place.settings.proxy_command is not None and not place.heard:
        return proxy_failed(place, place.settings.proxy_command, "\n".join(printed))
    return hung_up(place, message)


def silence(logs: Sequence[HopLog], timeouts: Timeouts, seconds: float) -> ConnectionFailed:
    """Return the error that says what the first unfinished hop did not do in time."""
    log = next((log for log in logs if not log.is_authenticated), logs[-1])
    if log.has_authentication_begun:
        return timed_out(log.place, "finish the authentication", timeouts.authentication_seconds)
    return timed_out(log.place, "finish the handshake", seconds)


def is_dropped(logs: Sequence[HopLog], printed: Sequence[str]) -> bool:
    """Return whether the first server hung up before it could have meant this client.

    `printed` is what was printed outside the hops' logs, by a ProxyCommand to that server. If the
    server was heard, no ProxyCommand failed.
    """
    first = logs[0]
    if first.has_authentication_begun or not may_be_dropped(first.heard):
        return False
    by_proxy = first.place.settings.proxy_command is not None and not first.heard
    if by_proxy and not proxy_may_be_dropped("\n".join(printed)):
        return False
    return any(map(HUNG_UP.search, first.messages))


def _says(error: Callable[[HopPlace, str], EnvsyncError]) -> _Meaning:
    """Return a meaning: an error that has the matched text as its detail."""
    return lambda match, log: error(log.place, match[0])


def _is(error: Callable[[HopPlace], EnvsyncError]) -> _Meaning:
    """Return a meaning: an error that says it all."""
    return lambda _, log: error(log.place)


def _unknown_key(_: re.Match[str], log: HopLog) -> EnvsyncError:
    invalid = [match[1] for line in log.messages if (match := _INVALID_CERTIFICATE.match(line))]
    if invalid:
        offered = " ".join(log.host_key)
        return refusals.invalid_host_certificate(log.place, offered, invalid[-1])
    return refusals.unknown_host_key(log.place, *log.host_key, _about_certificate(log))


def _about_certificate(log: HopLog) -> tuple[str, ...]:
    signers = log.find(r"^Server host certificate: .* CA (\S+ SHA256:\S+)")
    return tuple(f"signed by {name}: known_hosts has no such authority" for name in signers[-1:])


def _changed_key(_: re.Match[str], log: HopLog) -> EnvsyncError:
    name = log.place.settings.known_hosts_names[0]
    matches = [re.match(r"Offending (.+) key in (.+)", line) for line in log.messages]
    known = [f"{match[1]} in {match[2]}" for match in matches if match]
    files = {match[2].rpartition(":")[0] for match in matches if match}
    return refusals.changed_host_key(log.place, name, " ".join(log.host_key), known, files)


def _revoked_key(match: re.Match[str], log: HopLog) -> EnvsyncError:
    known_hosts = log.place.settings.user_known_hosts
    files = " and ".join(str(file) for file in known_hosts if os.access(file, os.F_OK))
    where = match.groupdict().get("where") or f"the @revoked lines of {files or 'known_hosts'}"
    return refusals.revoked_host_key(log.place, " ".join(log.host_key), where)


def _tried(log: HopLog) -> list[str]:
    return list(dict.fromkeys(log.find(r"^Offering public key: (.+?) \S+ SHA256:")))


def _locked(log: HopLog) -> list[str]:
    """Return the key files that need a passphrase.

    ssh says nothing of it, but does not sign with a key that the server would accept.
    """
    if any("with partial success" in line for line in log.messages):
        return []
    # An agent's key, or a token's, has another word at the end.
    return log.find(r"^Server accepts key: (.+?) \S+ SHA256:\S+(?: explicit)?$")


def _unusable(log: HopLog) -> dict[str, str]:
    """Return the key files that ssh could not read, each with the reason."""
    matches = (re.match(r'Load key "(.+)": (.+)', line) for line in log.messages)
    return {match[1]: match[2] for match in matches if match}


def _not_let_in(match: re.Match[str], log: HopLog) -> EnvsyncError:
    allowed, unusable = match["methods"].split(","), _unusable(log)
    locked = [name for name in _locked(log) if name not in unusable]
    tried = [name for name in _tried(log) if name not in (*locked, *unusable)]
    tried_files = [*tried, *(f"{name} (cannot be used: {why})" for name, why in unusable.items())]
    has_agent = bool(log.find("^(get_agent_identities): (?!ssh_get_authentication_socket)"))
    error = refusals.authentication_refused(
        log.place, tried_files, locked, allowed, has_agent=has_agent
    )
    if unusable and not (tried or locked):
        read = shlex.join(["ssh-keygen", "-y", "-f", next(iter(unusable))])
        error.hint = f"see what is wrong with that key: {read}"
    return error


def _too_many_keys(_: re.Match[str], log: HopLog) -> EnvsyncError:
    return refusals.too_many_keys(log.place, _tried(log))


def _no_way_on(match: re.Match[str], log: HopLog) -> EnvsyncError:
    if "administratively prohibited" in match[0]:
        return forwarding_forbidden(log.place, match[0])
    return not_forwarded(log.place, "cannot reach", match[0])


def _no_socket(match: re.Match[str], log: HopLog) -> EnvsyncError:
    """Return the error for a connect that sent no packet.

    Mostly there is no route from the local address that was asked for.
    """
    place, settings = log.place, log.place.settings
    if settings.bind_address is None and settings.bind_interface is None:
        return unreachable(place, match[0])
    why = [line for line in log.messages if re.match(r"(?:bind|getaddrinfo|getifaddrs)\b", line)]
    return unreached(
        place,
        "cannot be reached from the address that the ssh configuration names",
        f"correct BindAddress or BindInterface there: {shlex.join(['ssh', '-G', settings.alias])}",
        *(why or [match[0]]),
    )


def _bad_configuration(match: re.Match[str], log: HopLog) -> EnvsyncError:
    return ConnectionFailed(
        "the ssh configuration cannot be read",
        hint=f"see what is wrong with it: {log.place.ssh_command}",
        details=[match[0]],
        server=log.place.server,
    )


# The first match counts: a message that says more comes before those that follow from it.
_MEANINGS: tuple[tuple[str, _Meaning], ...] = (
    (r"^.*(?:REVOKED HOST KEY DETECTED|is marked as revoked).*", _revoked_key),
    (r"^Host key .* revoked by file (?P<where>.+)", _revoked_key),
    (r"^Error checking host key .* in revoked keys file (?P<where>.+?): .*", _revoked_key),
    (r"^.*HOST IDENTIFICATION HAS CHANGED.*", _changed_key),
    (r"^No \S+ host key is known for .*", _unknown_key),
    (r"^.*Host key verification failed.*", _unknown_key),
    (r"^.*Too many authentication failures.*", _too_many_keys),
    (r"^.*Permission denied \((?P<methods>[\w,@.-]*)\).*", _not_let_in),
    (r"^.*Could not resolve hostname .*: Temporary failure.*", _says(not_found_now)),
    (r"^.*Could not resolve hostname .*", _says(not_found)),
    (r"^.*connect to (?:host|address) .*: Connection refused", _is(refused)),
    (r"^.*connect to (?:host|address) .*: (?:Connection|Operation) timed out", _is(silent)),
    # A socket bound to the loopback address can be made, but has no route.
    (r"^.*connect to (?:host|address) .*: (?:failure|Invalid argument)", _no_socket),
    (r"^.*connect to (?:host|address) .*", _says(unreachable)),
    (r"^Connection timed out during banner exchange.*", _says(no_banner)),
    (r"^.*Unable to negotiate with .*", _says(no_common_algorithm)),
    (r"^(?:channel \d+: open failed:|stdio forwarding failed).*", _no_way_on),
    (r"^.*(?:Bad configuration option|Bad owner or permissions|bad configuration).*",
     _bad_configuration),
)  # fmt: skip
