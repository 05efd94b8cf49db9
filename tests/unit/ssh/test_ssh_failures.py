"""Every exception of the libraries below has a meaning for a person."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import socket
from collections.abc import Iterator

import paramiko
import pytest
from paramiko import ssh_exception

from envsync.errors import (
    AuthenticationRefused,
    ConnectionFailed,
    EnvsyncError,
    HostKeyRefused,
    NoSpace,
    TransferFailed,
)
from envsync.ssh import failures
from envsync.ssh.failures import MEANINGS, connecting
from envsync.ssh.refusals import Place
from envsync.ssh.ssh_config import HostSettings

# Modules that exist on Windows only.
_ELSEWHERE = {"_winapi", "win_pageant", "win_openssh"}
# Raised by server code and by readers of old key files, which are not called here.
_NOT_OURS = {"BERException"}


def exceptions_of_paramiko() -> Iterator[type[Exception]]:
    for module_info in pkgutil.iter_modules(paramiko.__path__):
        if module_info.name in _ELSEWHERE:
            continue
        module = importlib.import_module(f"paramiko.{module_info.name}")
        for _, cls in inspect.getmembers(module, inspect.isclass):
            if issubclass(cls, Exception) and cls.__module__ == module.__name__:
                yield cls


@pytest.fixture
def place() -> Place:
    return Place("server2", HostSettings("gpu02", "gpu02.lab.example", "alice", 2222))


@pytest.mark.parametrize("cls", list(exceptions_of_paramiko()))
def test_every_class_is_mapped_by_itself(cls: type[Exception]) -> None:
    """Not through a base class: a new one in a new paramiko is to be looked at."""
    assert cls in MEANINGS or cls.__name__ in _NOT_OURS


KEY = paramiko.ECDSAKey.generate()

EXAMPLES: list[tuple[Exception, type[EnvsyncError], str, str]] = [
    (socket.gaierror(-2, "x"), ConnectionFailed, "no host named", "spelling"),
    (UnicodeError("label too long"), ConnectionFailed, "no host named", "spelling"),
    (ConnectionRefusedError(), ConnectionFailed, "refuses connections", "sshd runs"),
    (TimeoutError(), ConnectionFailed, "does not answer", "ssh -p 2222 alice@gpu02"),
    (OSError(113, "No route to host"), ConnectionFailed, "cannot be reached", "network"),
    (
        ssh_exception.NoValidConnectionsError({("::1", 22): ConnectionRefusedError()}),
        ConnectionFailed, "refuses connections", "sshd runs",
    ),
    (ssh_exception.IncompatiblePeer("x"), ConnectionFailed, "no algorithm in common", "update"),
    (ssh_exception.MessageOrderError("x"), ConnectionFailed, "does not speak SSH", "-v"),
    (ssh_exception.SSHException("x"), ConnectionFailed, "does not speak SSH", "-v"),
    (
        ssh_exception.BadHostKeyException("gpu02", KEY, KEY),
        HostKeyRefused, "has changed", "ssh-keygen -R",
    ),
    (
        ssh_exception.AuthenticationException("no"),
        AuthenticationRefused, "does not let 'alice' in", "ssh-copy-id",
    ),
    (
        ssh_exception.AuthenticationException("Authentication timeout."),
        ConnectionFailed, "did not answer the authentication", "",
    ),
    (ssh_exception.ProxyCommandFailure("nc x", "1"), ConnectionFailed, "ProxyCommand", "nc x"),
    (ssh_exception.ChannelException(1, "no"), ConnectionFailed, "no session", "MaxSessions"),
    (ssh_exception.ConfigParseError("x"), ConnectionFailed, "configuration", "ssh -G gpu02"),
    (IndexError("from the reader"), ConnectionFailed, "does not speak SSH", "-v"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("error", "cls", "message", "hint"), EXAMPLES, ids=lambda value: type(value).__name__
)
def test_what_a_person_is_told(
    place: Place, error: Exception, cls: type[EnvsyncError], message: str, hint: str
) -> None:
    told = connecting(error, place)
    assert type(told) is cls
    assert told.server == "server2"
    assert message in told.message
    assert hint in told.hint


def test_an_error_of_ours_only_learns_its_server(place: Place) -> None:
    error = NoSpace("full")
    assert connecting(error, place) is error
    assert error.server == "server2"


def test_an_upload_that_fails() -> None:
    assert isinstance(failures.upload_failed(OSError(28, "x"), "s", "/f"), NoSpace)
    assert isinstance(failures.upload_failed(OSError("Failure"), "s", "/f"), TransferFailed)


def test_a_jump_host_is_called_one(place: Place) -> None:
    jump = Place("server2", place.settings, is_jump=True)
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
def test_what_is_worth_another_try(error: Exception, dropped: bool) -> None:
    assert failures.is_dropped(error) is dropped
