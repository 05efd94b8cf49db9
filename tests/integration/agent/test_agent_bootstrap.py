"""The agent as it is started on a server, by a shell and by every Python of this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from envsync.agent.operations import bootstrap, bundle
from envsync.agent.wire.channel import Channel
from envsync.agent.wire.operation import AnswerT, Operation, RequestT, encode
from envsync.agent.wire.server_operations import HELLO
from envsync.agent.wire.target_operations import (
    OPEN_TARGET,
    REFERENCES,
    AskReferences,
    OpenTarget,
    Requester,
)
from envsync.errors import AgentFailed, ConnectionLost, EnvsyncError, error_from_json
from tests.pythons import interpreters

TOKEN = "0123456789abcdef"


@contextmanager
def agent(
    python: str, home: Path, *, noise: str = "", path: str | None = None
) -> Iterator[Channel]:
    """A running agent that said its token; whatever came before is checked to be the noise."""
    process = subprocess.Popen(
        ["/bin/sh", "-c", f"printf '%s' '{noise}'; {bootstrap.COMMAND}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"HOME": str(home), "PATH": os.environ["PATH"] if path is None else path},
        bufsize=0,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    channel: Channel | None = None
    source, sink = process.stdout.fileno(), process.stdin.fileno()
    try:
        write(sink, bootstrap.preamble(python, TOKEN))
        expected = noise.encode() + f"\n{TOKEN}\n".encode()
        assert read(source, len(expected)) == expected
        magic = read(source, bootstrap.MAGIC_LINE_BYTES)
        write(sink, bundle.modules(magic.strip()))
        channel = Channel(lambda size: os.read(source, size), lambda data: write(sink, data))
        channel.start()
        yield channel
    finally:
        process.stdin.close()
        process.wait(30)
        if channel is not None:
            _drain(channel)
            channel.close()
        process.stdout.close()


def _drain(channel: Channel) -> None:
    """Until its thread has seen the end: it must not read from a descriptor used again."""
    try:
        while True:
            channel.receive()
    except EnvsyncError:
        pass


def read(fd: int, size: int) -> bytes:
    parts = b""
    while len(parts) < size and (part := os.read(fd, size - len(parts))):
        parts += part
    return parts


def write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def ask(channel: Channel, operation: Operation[RequestT, AnswerT], request: RequestT) -> AnswerT:
    document, _ = encode(request)
    channel.send_message({"operation": operation.name, "request": document})
    while True:
        document, payload = channel.receive_message()
        if "error" in document:
            raise error_from_json(document["error"])
        if "answer" in document:
            return operation.decode_answer(document["answer"], payload)


@pytest.mark.parametrize("version", interpreters())
def test_agent_answers_on_python(version: str, tmp_path: Path) -> None:
    with agent(str(interpreters()[version]), tmp_path) as channel:
        hello = ask(channel, HELLO, None)
        assert hello.python == str(interpreters()[version])
        assert "zlib" in _codecs(channel, tmp_path)
        with pytest.raises(AgentFailed, match="no-such-thing"):
            ask(channel, Operation[None, None]("no-such-thing"), None)
        assert ask(channel, HELLO, None).who == hello.who, "an error is not the end"
    assert list(tmp_path.iterdir()) == [], "nothing is stored on a server"


def _codecs(channel: Channel, prefix: Path) -> tuple[str, ...]:
    """What the interpreter decodes, as it found out."""
    ask(channel, OPEN_TARGET, OpenTarget(str(prefix), "myenv", (), Requester("alice")))
    return ask(channel, REFERENCES, AskReferences()).codecs


@pytest.mark.parametrize("noise", ["Welcome!\n", f"{TOKEN[:-1]}\n", "no newline, C\1\2\3"])
def test_output_of_login_files_before_the_token_is_skipped(noise: str, tmp_path: Path) -> None:
    with agent(str(next(iter(interpreters().values()))), tmp_path, noise=noise) as channel:
        assert ask(channel, HELLO, None)


def test_agent_takes_python3_where_the_preferred_python_is_missing(tmp_path: Path) -> None:
    with agent("/no/such/python", tmp_path) as channel:
        assert ask(channel, HELLO, None)


@pytest.mark.parametrize(
    ("program", "status"),
    [(None, bootstrap.EXIT_NO_PYTHON), ("exit 70", bootstrap.EXIT_OLD_PYTHON)],
    ids=["no Python", "an old Python"],
)
def test_a_server_without_a_usable_python(program: str | None, status: int, tmp_path: Path) -> None:
    """The statuses are what the other end tells a person by."""
    for name in ("env", "sh"):
        (tmp_path / name).symlink_to(f"/usr/bin/{name}")
    if program is not None:
        (tmp_path / "python3").write_text(f"#!/bin/sh\n{program}\n")
        (tmp_path / "python3").chmod(0o755)
    answer = subprocess.run(
        ["/bin/sh", "-c", bootstrap.COMMAND],
        input=bootstrap.preamble("/no/such/python", TOKEN),
        env={"HOME": "/", "PATH": str(tmp_path)},
        capture_output=True,
        check=False,
    )
    assert answer.returncode == status


def test_agent_process_has_an_ssh_agent_only_where_one_was_lent() -> None:
    environ = {"PATH": os.environ["PATH"], "HOME": "/", "SSH_AUTH_SOCK": "/agent"}
    seen = []
    for command in (bootstrap.COMMAND, bootstrap.COMMAND_WITH_AGENT):
        done = subprocess.run(
            ["/bin/sh", "-c", command],
            input=os.fsencode(sys.executable) + b"\nimport os;print(os.getenv('SSH_AUTH_SOCK'))\n",
            env=environ, capture_output=True, check=True,
        )  # fmt: skip
        seen.append(done.stdout)
    assert seen == [b"None\n", b"/agent\n"]


@pytest.mark.parametrize("command", [bootstrap.COMMAND, bootstrap.COMMAND_WITH_AGENT])
def test_the_command_is_plain_enough_for_any_login_shell(command: str) -> None:
    """csh and fish pass it on as it is: fixed ASCII, one pair of quotes, no `!`-history in csh."""
    assert command.isascii()
    assert "\n" not in command
    assert command.count("'") == 2
    for line in bootstrap.preamble("/usr/bin/python3", TOKEN).split(b"\n")[1:2]:
        assert b"\\" not in line


def test_agent_process_ends_with_its_input(tmp_path: Path) -> None:
    with agent(str(next(iter(interpreters().values()))), tmp_path) as channel:
        ask(channel, HELLO, None)
    with pytest.raises((ConnectionLost, AgentFailed)):
        channel.receive_message()
