"""Every exception of the libraries below has a meaning for a person."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import paramiko
import pytest
from paramiko import ssh_exception

from envsync.errors import ConnectionFailed, HostKeyRefused
from envsync.ssh import connection_errors, fabric_failures
from envsync.ssh.algorithms import NoneAllowed
from envsync.ssh.bounded_socket import BoundedSocket
from envsync.ssh.fabric_failures import connecting
from envsync.ssh.hop_place import HopPlace
from envsync.ssh.host_settings import HostSettings
from envsync.ssh.refusals import authentication_refused

# Modules that exist on Windows only.
_ELSEWHERE = {"_winapi", "win_pageant", "win_openssh"}
_HAS_A_MEANING = {"SSHException", "ChannelException", "IncompatiblePeer", "ProxyCommandFailure"}
_NEVER_COMES_OUT = {
    # Of server code and of readers of old key files.
    "BERException", "PasswordRequiredException",
    # Of what is done here in another way: connecting, known_hosts, keys' order, the agent.
    "NoValidConnectionsError", "InvalidHostKey", "BadHostKeyException",
    "AuthFailure", "UnableToAuthenticate",
    # Caught where they are raised: by the authentication, the configuration, an upload.
    "AuthenticationException", "BadAuthenticationType", "PartialAuthentication", "UnknownKeyType",
    "ConfigParseError", "CouldNotCanonicalize", "SFTPError",
    # Caught by paramiko itself.
    "NeedRekeyException", "PipeTimeout",
    # It means what it is a kind of: SSHException.
    "MessageOrderError",
}  # fmt: skip


def exceptions_of_paramiko() -> Iterator[type[Exception]]:
    for module_info in pkgutil.iter_modules(paramiko.__path__):
        if module_info.name in _ELSEWHERE:
            continue
        module = importlib.import_module(f"paramiko.{module_info.name}")
        for _, cls in inspect.getmembers(module, inspect.isclass):
            if issubclass(cls, Exception) and cls.__module__ == module.__name__:
                yield cls


@pytest.fixture
def place() -> HopPlace:
    return HopPlace("server2", HostSettings("gpu02", "gpu02.lab.example", "alice", 2222))


@pytest.mark.parametrize("cls", list(exceptions_of_paramiko()))
def test_every_class_was_considered(cls: type[Exception]) -> None:
    """A new one in a new paramiko is to be looked at."""
    assert cls.__name__ in _HAS_A_MEANING | _NEVER_COMES_OUT


EXAMPLES: list[tuple[Exception, str, str]] = [
    (socket.gaierror(-2, "x"), "no host named", "spelling"),
    (UnicodeError("label too long"), "no host named", "spelling"),
    (ConnectionRefusedError(), "refuses connections", "sshd runs"),
    (TimeoutError(), "does not answer", "ssh -p 2222 alice@gpu02"),
    (OSError(113, "No route to host"), "cannot be reached", "ping gpu02.lab"),
    (
        socket.gaierror(socket.EAI_AGAIN, "x"),
        "cannot be resolved at present", "getent hosts gpu02.lab.example",
    ),
    (EOFError(), "closed the connection during the handshake", "MaxStartups"),
    (
        ssh_exception.SSHException("Timeout opening channel."),
        "opened no session in time", "overloaded",
    ),
    (
        ssh_exception.SSHException("No existing session"),
        "did not finish the handshake in time", "overloaded",
    ),
    (ssh_exception.IncompatiblePeer("x"), "no algorithm in common", "update"),
    (ssh_exception.IncompatiblePeer("x"), "no algorithm in common", "allow more"),
    (
        NoneAllowed("HostKeyAlgorithms"),
        "the HostKeyAlgorithms that the ssh configuration allows", "ssh -G gpu02",
    ),
    (ssh_exception.MessageOrderError("x"), "does not speak SSH", "-v"),
    (ssh_exception.SSHException("x"), "does not speak SSH", "-v"),
    (ssh_exception.ProxyCommandFailure("nc x", "1"), "ProxyCommand", "nc x"),
    (ssh_exception.ChannelException(1, "no"), "no session", "MaxSessions"),
    (IndexError("from the reader"), "does not speak SSH", "-v"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("error", "message", "hint"), EXAMPLES, ids=lambda value: type(value).__name__
)
def test_exception_has_a_message_and_a_hint(
    place: HopPlace, error: Exception, message: str, hint: str
) -> None:
    told = connecting(error, place)
    assert type(told) is ConnectionFailed
    assert told.server == "server2"
    assert message in told.message
    assert hint in told.hint


def test_a_name_without_an_address_of_the_family_that_is_asked_for(place: HopPlace) -> None:
    only = replace(place, settings=replace(place.settings, address_family="inet6"))
    assert "only AddressFamily inet6" in connecting(socket.gaierror(-9, "x"), only).hint


@pytest.mark.parametrize(
    ("name", "hint"), [("gpu02:23153", "`port: 23153`"), ("fe80::1:22", "check the spelling")]
)
def test_hint_for_a_name_with_a_port_in_it_says_so(place: HopPlace, name: str, hint: str) -> None:
    named = replace(place, settings=replace(place.settings, hostname=name))
    assert hint in connecting(socket.gaierror(-2, "x"), named).hint


_BANNER = ssh_exception.SSHException("Error reading SSH protocol banner")


@pytest.mark.parametrize(
    ("heard", "error", "message", "hint"),
    [
        ("Exceeded MaxStartups", EOFError(), "closed the connection during", "MaxStartups"),
        ("Not allowed at this time", EOFError(), "blocks this address", "PerSourcePenalties"),
        ("HTTP/1.1 400 Bad Request", _BANNER, "is not an SSH server", "is 2222 the port"),
        ("220 ftp", EOFError(), "is not an SSH server", "is 2222 the port"),
        ("x" * 80, ssh_exception.SSHException("No existing session"), "is not an SSH server", ""),
    ],
)
def test_text_of_a_server_that_speaks_no_ssh_is_shown(
    place: HopPlace, heard: str, error: Exception, message: str, hint: str
) -> None:
    told = connecting(error, replace(place, heard=heard))
    assert message in told.message
    assert hint in told.hint
    assert told.details == (f"it says: {heard}",)


@pytest.mark.parametrize(
    ("code", "message", "hint"),
    [
        (
            1,
            "the jump host gpu02.lab.example:2222 does not allow forwarding to inner",
            "AllowTcpForwarding",
        ),
        (2, "the jump host gpu02.lab.example:2222 cannot reach inner", "address and port"),
    ],
)
def test_a_jump_host_names_where_it_could_not_go(
    place: HopPlace, code: int, message: str, hint: str
) -> None:
    jump = replace(place, is_jump=True, onward="inner")
    told = connecting(ssh_exception.ChannelException(code, "why"), jump)
    assert told.message == message
    assert hint in told.hint
    assert told.details == ("why",)


def test_commands_go_the_same_way(place: HopPlace) -> None:
    settings = replace(place.settings, jump="bob@gate,mid", given_identity=Path("/k/lab key"))
    there = replace(place, settings=settings)
    assert there.ssh_command == "ssh -i '/k/lab key' -J bob@gate,mid -p 2222 alice@gpu02"
    refused = authentication_refused(there, ["a"], [], ["publickey", "password"])
    way = "-i '/k/lab key' -o ProxyJump=bob@gate,mid -p 2222 alice@gpu02"
    assert refused.hint == f"put your key there: ssh-copy-id {way}"
    offered = replace(place, settings=replace(place.settings, identity_files=(Path("/k/other"),)))
    refused = authentication_refused(offered, ["agent key a", "/k/other"], [], ["password"])
    assert "ssh-copy-id -i /k/other -p 2222 alice@gpu02" in refused.hint
    keys_only = authentication_refused(there, ["a"], [], ["publickey"])
    assert keys_only.hint.startswith("have your public key added to ~alice/.ssh/authorized_keys")


def test_user_without_a_key_is_told_of_ssh_copy_id_only_where_passwords_are_accepted(
    place: HopPlace,
) -> None:
    by_password = authentication_refused(place, [], [], ["publickey", "password"])
    make = "make a key and put it there: ssh-keygen -t ed25519 && ssh-copy-id "
    assert by_password.hint.startswith(make)
    keys_only = authentication_refused(place, [], [], ["publickey"])
    there = "have your public key added to ~alice/.ssh/authorized_keys there"
    assert keys_only.hint.startswith(f"make a key (ssh-keygen -t ed25519), then {there}")


@pytest.mark.parametrize("agent", ["none", "/run/agent", "$OTHER_SOCK"])
def test_no_key_is_given_to_an_agent_that_is_not_asked(place: HopPlace, agent: str) -> None:
    there = replace(place, settings=replace(place.settings, identity_agent=agent))
    for has_agent in (True, False):
        refused = authentication_refused(there, [], ["/k/key"], [], has_agent=has_agent)
        assert f"IdentityAgent is {agent} for gpu02 in the ssh configuration" in refused.hint
        assert "ssh-add" not in refused.hint


@pytest.mark.parametrize(
    ("reason", "details"),
    [(EOFError(), ()), (TimeoutError("timed out"), ("timed out",)), (None, ())],
)
def test_lost_connection_has_only_details_that_have_words(
    reason: Exception | None, details: tuple[str, ...]
) -> None:
    assert connection_errors.lost("server3", reason).details == details


def test_jump_host_is_called_jump_host(place: HopPlace) -> None:
    jump = HopPlace("server2", place.settings, is_jump=True)
    assert connecting(TimeoutError(), jump).message.startswith("the jump host gpu02.lab")


@pytest.mark.parametrize(
    ("error", "dropped"),
    [
        (EOFError(), True),
        (ConnectionResetError(), True),
        (ConnectionRefusedError(), False),
        (ssh_exception.SSHException("Error reading SSH protocol banner"), False),
        (ssh_exception.IncompatiblePeer("x"), False),
        (HostKeyRefused("x"), False),
    ],
)
def test_errors_of_a_dropped_connection_are_recognized(error: Exception, dropped: bool) -> None:
    assert fabric_failures.is_dropped(error, "") is dropped


@pytest.mark.parametrize(
    ("heard", "dropped"),
    [("Exceeded MaxStartups", True), ("Not allowed at this time", False), ("220 ftp", False)],
)
def test_connection_is_tried_again_only_where_a_crowd_is_the_cause(
    heard: str, dropped: bool
) -> None:
    assert fabric_failures.is_dropped(EOFError(), heard) is dropped


@pytest.mark.parametrize(
    ("received", "heard"),
    [
        (b"", ""),
        (b"SSH-2.0-OpenSSH_9.2\r\n", ""),
        (b"welcome\r\nto the lab\r\nSSH-2.0-x\r\n\0\1", ""),
        (b"\r\n\x1b[2J\xff ftp\r\nmore", "\x1b[2J\\xff ftp"),
        (b"y" * 10_000, "y" * 80),
    ],
)
def test_first_line_before_any_ssh_is_kept(received: bytes, heard: str) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(received)
        theirs.shutdown(socket.SHUT_WR)
        listening = BoundedSocket(ours, 1)
        while listening.recv(7):
            pass
        assert listening.heard == heard


def test_bytes_that_are_no_ssh_are_not_called_an_unknown_name(place: HopPlace) -> None:
    error = UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")
    assert "does not speak SSH as expected" in connecting(error, place).message
