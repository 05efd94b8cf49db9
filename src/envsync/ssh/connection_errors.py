"""The errors for a person where a server cannot be reached, or the link to it is lost.

`fabric_failures` and `openssh_failures` find out which of them a failure is.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from paramiko.ssh_exception import SSHException

from envsync.errors import ConnectionFailed, ConnectionLost, TransferFailed
from envsync.ssh.hop_place import HopPlace

HUNG_UP = re.compile(
    r"(?:kex|ssh)_exchange_identification: .*(?:Connection closed|Connection reset)|"
    # Of a connection that was closed before ssh wrote its first line.
    r"^banner exchange: Connection to \S+ port \d+: (?:Broken pipe|Connection reset)|"
    r"^Connection (?:closed|reset) by \S+ port \d+$",
    re.MULTILINE,
)
"""What the system's ssh says of a server that closed the connection before it let anybody in."""

# Whatever else a ProxyCommand writes may be a bastion's banner, or a warning.
_PROXY_REFUSED = re.compile(
    r"Permission denied|Too many authentication failures|Host key verification failed|"
    r"Could not resolve|Name or service not known|(?:Network|Host) is unreachable|[Nn]o route|"
    r"Connection refused|(?:Connection|Operation) timed out|open failed:|Unable to negotiate|"
    r"(?:: |command )not found|cannot execute|Bad configuration option"
)
# What sshd sends before it closes a connection unasked.
_PENALTY = "Not allowed at this time"
_CROWDED = "Exceeded MaxStartups"


def reason_of(error: BaseException | str) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, (str, OSError, SSHException)) and str(error):
        return str(error)
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def may_be_dropped(heard: str) -> bool:
    """Return whether a server that hung up may let in a further try; `heard` is what it sent.

    It may if it is crowded, or said nothing. A penalty lasts longer with each try.
    """
    return not heard or _CROWDED in heard


def proxy_may_be_dropped(words: str) -> bool:
    """Return whether a ProxyCommand that wrote these words may succeed in a further try."""
    return _PROXY_REFUSED.search(words) is None


def lost(server: str, reason: BaseException | str | None = None) -> ConnectionLost:
    # An error without words, such as the EOFError of a link that has ended, explains nothing.
    details = [reason_of(reason)] if reason and str(reason) else []
    return ConnectionLost("the connection was lost", details=details, server=server)


def no_sftp(server: str, detail: str) -> TransferFailed:
    """Return the error for a server that starts no sftp, or one that ends at once."""
    return TransferFailed(
        "it has no sftp",
        hint="use --transport stream, or see to `Subsystem sftp` in its sshd_config",
        details=[detail],
        server=server,
    )


def not_clean_for_sftp(server: str, error: BaseException) -> TransferFailed:
    """Return the error for a session of sftp that begins with anything else."""
    return TransferFailed(
        "its login files print something, which sftp cannot skip",
        hint="make them (such as ~/.bashrc) print only on a terminal, or omit --transport",
        details=[reason_of(error)],
        server=server,
    )


def unreached(place: HopPlace, predicate: str, hint: str = "", *details: str) -> ConnectionFailed:
    return _tried(place, f"{place.subject} {predicate}", hint, details)


def _tried(place: HopPlace, message: str, hint: str, details: Sequence[str]) -> ConnectionFailed:
    """Return the error for a server that was contacted, and could not be reached."""
    error = ConnectionFailed(message, hint=hint, details=details, server=place.server)
    error.was_tried = True
    return error


def not_found(place: HopPlace, detail: str) -> ConnectionFailed:
    """Return the error for a host name that does not exist."""
    name = place.settings.hostname
    hint = f"check the spelling, or: {_look_up(name)}"
    family = place.settings.address_family
    host, colon, port = name.rpartition(":")
    if colon and port.isdigit() and ":" not in host:
        hint = f"give the port as `port: {port}` in the inventory, or in ~/.ssh/config"
    elif family != "any":
        hint = f"the ssh configuration allows only AddressFamily {family}; {hint}"
    which = " (the jump host)" if place.is_jump else ""
    return _tried(place, f"there is no host named {name!r}{which}", hint, [detail])


def not_found_now(place: HopPlace, detail: str) -> ConnectionFailed:
    """Return the error for a host name that the DNS gives no answer about."""
    name = place.settings.hostname
    which = "of the jump host " if place.is_jump else ""
    return _tried(
        place,
        f"the name {which}{name!r} cannot be resolved at present",
        f"check the DNS of this machine if this fails, too: {_look_up(name)}",
        [detail],
    )


def _look_up(name: str) -> str:
    return shlex.join(["getent", "hosts", name])


def refused(place: HopPlace) -> ConnectionFailed:
    port = place.settings.port
    hint = f"check that sshd runs there and listens on port {port}: systemctl status ssh"
    return unreached(place, "refuses connections", hint)


def silent(place: HopPlace) -> ConnectionFailed:
    """Return the error for a host that does not answer a connect."""
    hint = _see_whether_it_answers(place)
    if place.settings.jump is None and place.settings.proxy_command is None:
        hint = f"if only another host reaches it, set `jump:` in the inventory; {hint}"
    return unreached(place, "does not answer", hint)


def _see_whether_it_answers(place: HopPlace) -> str:
    return f"see whether it answers at all: {place.ssh_command}"


def unreachable(place: HopPlace, detail: str) -> ConnectionFailed:
    """Return the error for any other failure to connect."""
    ping = shlex.join(["ping", place.settings.hostname])
    return unreached(
        place, "cannot be reached", f"check the address and the network: {ping}", detail
    )  # fmt: skip


def proxy_failed(place: HopPlace, command: str, detail: str) -> ConnectionFailed:
    return unreached(
        place, "is behind a ProxyCommand that failed", f"try it by hand: {command}",
        *detail.splitlines(),
    )  # fmt: skip


def no_banner(place: HopPlace, *details: str) -> ConnectionFailed:
    return unreached(
        place, "accepts connections but sends no SSH banner",
        "check that an SSH server listens on that port", *details,
    )  # fmt: skip


def hung_up(place: HopPlace, detail: str) -> ConnectionFailed:
    """Return the error for a server that closed the connection before any login."""
    if _PENALTY in place.heard:
        return unreached(
            place,
            "blocks this address for a while",
            "wait some minutes; PerSourcePenalties in its sshd_config says for how long",
            f"it says: {place.heard}",
        )
    if not may_be_dropped(place.heard):
        return another_protocol(place)
    details = [f"it says: {place.heard}"] if place.heard else [detail]
    return unreached(
        place,
        "closed the connection during the handshake",
        "it may be overloaded (MaxStartups) or have blocked this address: check its sshd's log",
        *filter(None, details),
    )


def closed_during_login(place: HopPlace, *details: str) -> ConnectionFailed:
    """Return the error for a server that did not say why it closed the connection."""
    error = unreached(
        place,
        "closed the connection during the login",
        f"it may be restarting, or not allow {place.settings.user!r} to log in at present: "
        "check its sshd's log",
        *details,
    )
    error.was_during_login = True
    return error


def another_protocol(place: HopPlace) -> ConnectionFailed:
    return unreached(
        place,
        "answers, but is not an SSH server",
        f"check host and port: is {place.settings.port} the port of its sshd?",
        f"it says: {place.heard}",
    )


def protocol_broken(place: HopPlace, detail: str) -> ConnectionFailed:
    hint = f"see what it says: {place.ssh_command} -v"
    return unreached(place, "does not speak SSH as expected", hint, detail)


def no_common_algorithm(place: HopPlace, detail: str) -> ConnectionFailed:
    return unreached(
        place,
        "has no algorithm in common with this client",
        "update its sshd, or let the ssh configuration allow more; "
        f"see what it offers: {place.ssh_command} -v",
        detail,
    )


def no_allowed_algorithm(place: HopPlace, key: str, detail: str) -> ConnectionFailed:
    """Return the error for a configuration that leaves none of ours; `key` is its keyword."""
    return unreached(
        place,
        f"cannot be reached with the {key} that the ssh configuration allows",
        f"allow more there; see what it has: {shlex.join(['ssh', '-G', place.settings.alias])}",
        detail,
    )


def timed_out(place: HopPlace, what: str, seconds: float) -> ConnectionFailed:
    hint = _see_whether_it_answers(place)
    return unreached(place, f"did not {what} within {seconds:g} seconds", hint)


def too_slow(place: HopPlace, predicate: str, *details: str) -> ConnectionFailed:
    hint = f"it may be overloaded; {_see_whether_it_answers(place)}"
    return unreached(place, predicate, hint, *details)


def forwarding_forbidden(place: HopPlace, detail: str) -> ConnectionFailed:
    hint = "check AllowTcpForwarding in its sshd_config, and its authorized_keys"
    return unreached(place, f"does not allow forwarding to {place.onward}", hint, detail)


def not_forwarded(place: HopPlace, predicate: str, *details: str) -> ConnectionFailed:
    """Return the error for a jump host that tried, and opened no way to the next host."""
    hint = "check that host's address and port, and what the jump host can reach"
    return unreached(place, f"{predicate} {place.onward}", hint, *details)


def no_session(place: HopPlace, *details: str) -> ConnectionFailed:
    return unreached(place, "opens no session", "check MaxSessions in its sshd_config", *details)


def no_command(place: HopPlace, error: BaseException) -> ConnectionFailed:
    return unreached(
        place,
        "does not start commands",
        f"check ForceCommand and the login shell until this works: {place.ssh_command} true",
        reason_of(error),
    )
