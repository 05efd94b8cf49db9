"""Which Python the agent starts in, and what is said where none does."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import MAGIC_NUMBER
from typing import cast

import pytest

from envsync.agent.operations import bootstrap
from envsync.agent.operations.process import EXIT_LOST
from envsync.agent.wire.server_operations import HELLO
from envsync.agent.wire.target_operations import OpenTarget, Requester
from envsync.errors import AgentFailed, ConnectionLost, EnvsyncError, LimitReached
from envsync.push.ends.agent_start import AgentStart, start_agent
from envsync.push.ends.end import RemoteEnd
from envsync.push.ends.target_end import TargetEnd
from envsync.ssh.session import Link, Reached, Session

PREFIX = "/w/conda"
PYTHON = f"{PREFIX}/bin/python"
LOADER = f"{PYTHON}: error while loading shared libraries: libpython3.11.so.1.0: not found"
ENV = f"env: '{PYTHON}': Permission denied"
OTHER_COMMAND = "it runs something else instead of the command that it was sent"


@dataclass
class Ended:
    """A session whose command ends with a status and without a greeting."""

    status: int | None
    stderr: str = ""
    python: str = ""
    is_closed: bool = False

    def write(self, data: bytes) -> None:
        self.python = self.python or data.partition(b"\n")[0].decode() or "python3"

    def read(self, size: int) -> bytes:
        return b""

    def exit_status(self, timeout_seconds: float) -> int | None:
        return self.status

    def stderr_tail(self) -> str:
        return self.stderr

    def close(self) -> None:
        self.is_closed = True


class Cut(Ended):
    """A session whose link is cut before the command ends."""

    def read(self, size: int) -> bytes:
        raise ConnectionLost("the connection was lost")


@dataclass
class Greeting(Ended):
    """A session whose Python starts, and says the token that it was sent; then it may end."""

    takes_modules: bool = True
    unread: bytes = b""

    def write(self, data: bytes) -> None:
        if self.python and not self.takes_modules:
            raise ConnectionLost("gone")
        if not self.python:
            loader = bytes.fromhex(data.split(b"fromhex('")[1].split(b"')")[0].decode())
            token = loader.split(b'b"\\n" + b\'')[1].split(b"'")[0]
            self.unread = b"hello\n" + token + b"\n" + MAGIC_NUMBER.hex().encode() + b"\n"
        super().write(data)

    def read(self, size: int) -> bytes:
        part, self.unread = self.unread[:size], self.unread[size:]
        return part


@dataclass
class Server:
    """A link that grants these sessions, one after the other, and then none."""

    sessions: list[Ended]
    granted: list[Ended] = field(default_factory=list)
    server: str = "server2"

    @property
    def reached(self) -> Reached:
        return Reached(self.server, self.server, "alice", 22)

    def run(self, command: str) -> Ended:
        if not self.sessions:
            raise ConnectionLost("no further session")
        self.granted.append(self.sessions.pop(0))
        return self.granted[-1]

    def end(self) -> RemoteEnd:
        return RemoteEnd(cast(Link, self), PREFIX)

    def start(self) -> bytes:
        return start_agent(cast(Link, self), PREFIX, bootstrap.COMMAND).noise


@pytest.mark.parametrize(
    ("status", "stderr"),
    [
        (bootstrap.EXIT_OLD_PYTHON, ""),
        (1, LOADER),
        (2, f"Unknown option: -I\nusage: {PYTHON} [option]"),
        (126, ENV),
        (127, LOADER),
        (127, ""),
        (139, "Segmentation fault"),
        (None, ""),
    ],
)
def test_python3_serves_where_the_prefixs_python_does_not_start(
    status: int | None, stderr: str
) -> None:
    """A signal that ends it leaves no status, or that of the shell."""
    first, second = Ended(status, stderr), Greeting(None)
    assert Server([first, second]).start() == b"hello"
    assert (first.python, second.python) == (PYTHON, "python3")
    assert (first.is_closed, second.is_closed) == (True, False)


def test_a_python_that_starts_is_the_only_one() -> None:
    server = Server([Greeting(None), Greeting(None)])
    assert server.start() == b"hello"
    assert [session.python for session in server.granted] == [PYTHON]


@pytest.mark.parametrize(
    "first",
    [
        Ended(0),
        Ended(bootstrap.EXIT_NO_PYTHON),
        Greeting(1, "Traceback", takes_modules=False),
    ],
    ids=["a forced command", "no Python", "an agent that fails"],
)
def test_no_other_python_is_tried_where_it_cannot_help(first: Ended) -> None:
    server = Server([first, Greeting(None)])
    with pytest.raises(EnvsyncError):
        server.start()
    assert server.granted == [first]


def test_a_lost_link_is_not_blamed_on_python() -> None:
    start = AgentStart(cast(Link, Server([])), cast(Session, Cut(None)), PREFIX)
    with pytest.raises(ConnectionLost):
        start.begin(PYTHON)
    assert start.python_failure == ""


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("json", "its Python lacks a part of the standard library"),
        ("envsync.errors", "the agent did not start (exit status 1)"),
    ],
)
def test_only_a_module_of_pythons_own_is_to_be_installed(module: str, message: str) -> None:
    stderr = f"Traceback (most recent call last):\nModuleNotFoundError: No module named '{module}'"
    with pytest.raises(AgentFailed) as caught:
        Server([Greeting(1, stderr, takes_modules=False)]).start()
    assert caught.value.message == message
    assert ("install" in caught.value.hint) == (module == "json")


@pytest.mark.parametrize("others", [list, lambda: [Ended(bootstrap.EXIT_NO_PYTHON)]])
@pytest.mark.parametrize(
    ("status", "stderr", "message"),
    [
        (bootstrap.EXIT_OLD_PYTHON, "", "its Python is too old: 3.8 or newer is needed"),
        (127, f"hello\n{LOADER}", f"the prefix's Python does not start: {LOADER}"),
        (1, LOADER, f"the prefix's Python does not start: {LOADER}"),
        (126, ENV, f"the prefix's Python does not start: {ENV}"),
        (1, "This account is not available", OTHER_COMMAND),
        (127, "sh: not found", "the agent did not start (exit status 127)"),
    ],
)
def test_error_is_of_the_prefixs_python_where_no_other_starts_either(
    others: Callable[[], list[Ended]], status: int, stderr: str, message: str
) -> None:
    """Login files are to blame only where nothing names that Python."""
    server = Server([Ended(status, stderr), *others()])
    with pytest.raises(AgentFailed) as caught:
        server.start()
    assert caught.value.message == message
    assert caught.value.server == "server2"
    assert all(session.is_closed for session in server.granted)
    if "prefix" in message:
        assert caught.value.hint.endswith(f"ssh alice@server2 '{PYTHON} --version'")


@pytest.mark.parametrize(
    ("first", "reason"),
    [
        (Ended(bootstrap.EXIT_OLD_PYTHON), "it is older than 3.8"),
        (Ended(127, f"hello\n{LOADER}"), LOADER),
        (Ended(127), "exit status 127"),
        (Ended(None), "a signal ended it"),
    ],
)
def test_a_prefixs_python_that_does_not_start_is_told(first: Ended, reason: str) -> None:
    with contextlib.closing(Server([first, Greeting(None)]).end()) as end:
        assert end.python_failure == reason


@pytest.mark.parametrize(
    ("told", "message"),
    [
        (139, "the prefix's Python does not start: SIGSEGV ends it"),
        (0, "the agent did not start"),
        (128 + 99, "the agent did not start"),
        (None, "the agent did not start"),
    ],
)
def test_error_names_the_signal_where_it_ends_the_prefixs_python_again(
    told: int | None, message: str
) -> None:
    """Where it was another process, or python starts now, the same command may succeed."""
    asked = Ended(told)
    with pytest.raises(EnvsyncError) as caught:
        Server([Ended(None), Ended(bootstrap.EXIT_NO_PYTHON), asked]).start()
    assert (caught.value.message, caught.value.server) == (message, "server2")
    assert (asked.python, asked.is_closed) == (PYTHON, True)
    assert ("`sudo dmesg` there may say why; " in caught.value.hint) == (told == 139)


NO_THREAD = "Traceback (most recent call last):\nRuntimeError: can't start new thread"


@pytest.mark.parametrize(
    ("status", "stderr", "error", "message"),
    [
        (1, NO_THREAD, LimitReached, "(`ulimit -u`), or that on memory (`ulimit -v`)"),
        (
            1,
            "Traceback\nMemoryError: no buffer",
            LimitReached,
            "its limit is reached (`ulimit -v`)",
        ),
        (1, "hello\nOSError: pas\x1b[3", AgentFailed, "(exit status 1): OSError: pas\x1b[3"),
        (1, "No module named 'json'", AgentFailed, "lacks a part of the standard library"),
        (0, "", AgentFailed, "the agent ended (exit status 0)"),
        (EXIT_LOST, "hello", ConnectionLost, "the connection was closed"),
        (137, "Killed", ConnectionLost, "the connection was closed"),
        (None, "hello", ConnectionLost, "the connection was closed"),
    ],
)
def test_an_agent_that_ends_after_its_greeting_leaves_its_reason(
    status: int | None, stderr: str, error: type[EnvsyncError], message: str
) -> None:
    """Not where the link was cut, or a signal ended it: then the same command may succeed."""
    with contextlib.closing(Server([Greeting(status, stderr)]).end()) as end:
        with pytest.raises(error) as caught:
            end.ask(HELLO, None)
        assert caught.value.message.endswith(message)
        assert caught.value.server == "server2"
        assert all(line in stderr for line in caught.value.details)


def test_a_switch_is_in_doubt_whatever_ended_the_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    end = Server([Greeting(1, NO_THREAD)]).end()
    with monkeypatch.context() as patched:
        patched.setattr(end, "ask", lambda *_, **__: PYTHON)  # when it is opened
        target = TargetEnd(end, OpenTarget(PREFIX, "myenv", (), Requester("alice")))
    target.ask = end.ask
    with contextlib.closing(end), pytest.raises(ConnectionLost) as caught:
        target.rollback(None, "alice", overwrite=False)
    assert "ulimit -u" in caught.value.details[0]
    assert caught.value.details[1:] == tuple(NO_THREAD.splitlines())
