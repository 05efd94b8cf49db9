"""Which Python the agent starts in, and what is said where none does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import MAGIC_NUMBER
from typing import cast

import pytest

from envsync.agent.operations import bootstrap
from envsync.errors import AgentFailed, ConnectionLost, EnvsyncError
from envsync.push.ends.agent_start import start_agent
from envsync.ssh.session import Link, Reached

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

    def start(self) -> bytes:
        return start_agent(cast(Link, self), PREFIX, bootstrap.COMMAND)[1]


@pytest.mark.parametrize(
    ("status", "stderr"),
    [
        (bootstrap.EXIT_OLD_PYTHON, ""),
        (1, LOADER),
        (2, f"Unknown option: -I\nusage: {PYTHON} [option]"),
        (126, ENV),
        (127, LOADER),
        (127, ""),
    ],
)
def test_python3_serves_where_the_prefixs_python_does_not_start(status: int, stderr: str) -> None:
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
        Ended(None),
        Ended(bootstrap.EXIT_NO_PYTHON),
        Greeting(1, "Traceback", takes_modules=False),
    ],
    ids=["a forced command", "a lost link", "no Python", "an agent that fails"],
)
def test_no_other_python_is_tried_where_it_cannot_help(first: Ended) -> None:
    server = Server([first, Greeting(None)])
    with pytest.raises(EnvsyncError):
        server.start()
    assert server.granted == [first]


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
