"""The agent's process: what it says of an error that nobody expected, and how it ends."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from envsync.agent.operations import service
from envsync.agent.operations.process import Process
from envsync.agent.operations.service import Service
from envsync.agent.places.locks import PushLock, holder_at
from envsync.agent.server.helper_processes import NO_HELPERS
from envsync.agent.server.limits import reached_limit
from envsync.agent.server.progress import SWITCH
from envsync.agent.target.target import Target
from envsync.agent.trees.cache_file import CacheFile
from envsync.agent.trees.trees import Trees
from envsync.agent.wire.build_operations import COMPLETE
from envsync.agent.wire.channel import Channel
from envsync.agent.wire.figures import SOURCE_CHANGED
from envsync.agent.wire.operation import AnswerT, Operation, RequestT, encode
from envsync.agent.wire.source_operations import (
    INSPECT_SOURCE,
    OPEN_SOURCE,
    InspectSource,
    OpenSource,
)
from envsync.agent.wire.target_operations import (
    INSPECT_TARGET,
    OPEN_TARGET,
    InspectTarget,
    OpenTarget,
    Requester,
)
from envsync.errors import ConnectionLost, Locked
from envsync.files.directories import content_directory
from envsync.tree.local import LocalPaths
from tests.support import disk
from tests.support.processes import wait_until_alone
from tests.support.pushes import Server, environment
from tests.support.trees import file


@pytest.fixture
def process() -> Iterator[Process]:
    """One whose session nobody reads."""
    source, sink = os.pipe()
    yield Process(source, sink, NO_HELPERS)
    os.close(source)
    os.close(sink)


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        (["intent", "sync"], "the live environment is untouched"),
        (["sync", "switch"], "shows which version is there"),
        (["switch", "switch"], "shows which version is there"),
        (["switch", "recovered"], "shows which version is there"),
        (["switch", "recovered", "switch"], "shows which version is there"),
        (["switch", "switched", "check"], "shows which version is there"),
    ],
)
def test_hint_of_an_unexpected_error_says_what_became_of_the_switch(
    steps: list[str], said: str, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down(asked: Service, _: None) -> None:
        for step in steps:
            asked.on_step(step)
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(service, "_operation", lambda _: (COMPLETE, break_down))
    message, _ = process._carry_out({"operation": COMPLETE.name, "request": None}, b"")
    assert said in message["error"]["hint"]


@pytest.mark.parametrize(
    ("error", "option", "is_certain"),
    [
        (MemoryError(), "-v", False),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "-v", False),
        (RuntimeError("can't start new thread"), "-u", True),
        (OSError(errno.EMFILE, "Too many open files"), "-n", False),
        (OSError(errno.EFBIG, "File too large"), "-f", True),
    ],
)
def test_a_limit_of_the_server_is_no_bug(
    error: Exception,
    option: str,
    is_certain: bool,
    process: Process,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where one may be behind it all the same, the traceback is kept."""

    def break_down(*_: object) -> None:
        raise error

    monkeypatch.setattr(service, "_operation", lambda _: (COMPLETE, break_down))
    message, _ = process._carry_out({"operation": COMPLETE.name, "request": None}, b"")
    told = message["error"]
    assert told["code"] == "limit-reached"
    assert f"(`ulimit {option}`)" in told["message"]
    assert told["message"].endswith("; the live environment is untouched")
    assert "report" not in str(told["hint"])
    assert is_certain == (not any("break_down" in line for line in told["details"]))


_AT_ITS_LIMIT = """
import os, resource, subprocess, threading
from envsync.agent.server.limits import reached_limit
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
for start in (lambda: subprocess.run(["/bin/true"]), threading.Thread().start):
    try:
        start()
    except Exception as error:
        print(reached_limit(error))
"""


def test_only_where_a_process_or_thread_is_started_is_eagain_a_limit() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _AT_ITS_LIMIT], capture_output=True, check=True, text=True
    )
    assert done.stdout.count("the limit on processes and threads is reached (`ulimit -u`)") == 2
    empty, output = os.pipe()
    os.set_blocking(empty, False)
    with pytest.raises(BlockingIOError) as caught:
        os.read(empty, 1)
    os.close(empty)
    os.close(output)
    assert reached_limit(caught.value) is None


def test_a_lock_says_that_the_command_is_gone_whose_switch_is_finished(
    process: Process, server: Server
) -> None:
    """So whoever was stopped in the switch, and runs the command again, learns what to wait for."""
    layout = server.target().layout
    lock = PushLock(layout, Requester("alice@server1"))
    lock.acquire()
    process._service.opened_target = cast("Target", SimpleNamespace(lock=lock))
    process._on_step(SWITCH)
    process._lost(ConnectionLost("the connection was closed"))
    with pytest.raises(Locked, match=r"alice@server1, .*; its command is gone") as refused:
        PushLock(layout, Requester("alice@server1")).acquire()
    assert "until its check has ended" in refused.value.hint
    lock.release()
    process._lost(ConnectionLost("the connection was closed"))
    assert holder_at(layout) is None


_WITHOUT_MEMORY = """
import os
from envsync.agent.operations.process import HelperProcesses, Process
from envsync.agent.wire import channel

def read_frame(_):
    raise MemoryError

channel.read_frame = read_frame
Process(os.pipe()[0], 1, HelperProcesses()).serve()
"""


def test_agent_that_cannot_go_on_ends_and_says_why() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT_MEMORY],
        capture_output=True,
        check=False,
        text=True,
        timeout=50,  # less than it waits for the other side
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "MemoryError"


class Session:
    """An agent in a process of its own, and whoever asks it something."""

    def __init__(self, cache: Path) -> None:
        self.progress: list[dict[str, object]] = []
        code = "from envsync.agent.operations.process import Process, HelperProcesses\n"
        code += "Process(0, 1, HelperProcesses()).serve()"
        self._agent = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "XDG_CACHE_HOME": str(cache)},
        )
        assert self._agent.stdin is not None
        assert self._agent.stdout is not None
        self._input, self._output = self._agent.stdin, self._agent.stdout
        self._channel = Channel(lambda size: os.read(self._output.fileno(), size), self._write)
        self._channel.start()

    def _write(self, data: bytes) -> None:
        self._input.write(data)
        self._input.flush()

    def ask(self, operation: Operation[RequestT, AnswerT], request: RequestT) -> AnswerT:
        document, _ = encode(request)
        message = {"operation": operation.name, "request": document, "number": 1}
        self._channel.send_message(message)
        while "answer" not in message:
            message, payload = self._channel.receive_message()
            assert "error" not in message
            self.progress += [message["progress"]] if "progress" in message else []
        return operation.decode_answer(message["answer"], payload)

    def end(self) -> None:
        self._input.close()
        self._agent.wait()
        self._channel.close()
        wait_until_alone()
        self._output.close()


def test_source_that_has_to_be_hashed_is_told_of_as_a_number(
    server: Server, tmp_path: Path
) -> None:
    """The other side accepts nothing else: else nobody would know that there is time."""
    os.mkdir(server.live)
    disk.build(server.live, environment({b"lib/m.py": file(b"12345")}))
    session = Session(tmp_path)
    session.ask(OPEN_SOURCE, OpenSource(str(server.prefix), server.name, ()))
    session.ask(INSPECT_SOURCE, InspectSource())
    session.end()
    first, *others = session.progress
    assert first == {SOURCE_CHANGED: 1}
    assert {type(value) for figures in (first, *others) for value in figures.values()} == {int}


LOCKED = InspectTarget(lock=True)


def opening(server: Server) -> OpenTarget:
    return OpenTarget(str(server.prefix), server.name, (), Requester("a test"))


def test_hashes_are_remembered_after_the_caller_has_gone(server: Server, tmp_path: Path) -> None:
    os.mkdir(server.live)
    disk.build(server.live, environment({b"lib/m.py": file(b"12345")}))
    session = Session(tmp_path)
    session.ask(OPEN_TARGET, opening(server))
    session.ask(INSPECT_TARGET, LOCKED)
    session.end()
    cache = content_directory({"XDG_CACHE_HOME": str(tmp_path)})
    assert Trees(cache, LocalPaths([])).snapshot(server.live).hashed_bytes == 0


def inspected(server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Service:
    """An end that was asked what stands there, with the lock."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    os.mkdir(server.live)
    disk.build(server.live, environment({b"lib/m.py": file(b"12345")}))
    end = Service()
    end.ask(OPEN_TARGET, opening(server))
    end.ask(INSPECT_TARGET, LOCKED)
    return end


def test_the_lock_goes_before_what_is_remembered(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that the next push, which may come at once, is not refused for it."""
    end = inspected(server, tmp_path, monkeypatch)
    held: list[bool] = []
    monkeypatch.setattr(CacheFile, "write", lambda *_: held.append(end.target.lock.is_held))
    end.leave()
    assert held == [False]


def test_agent_that_has_begun_to_build_keeps_the_lock_to_its_end(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Something of it may still be at work; both end with the process."""
    end = inspected(server, tmp_path, monkeypatch)
    wanted = disk.uncached().snapshot(server.live).manifest()
    end.push.stage(wanted)
    end.leave()
    assert end.target.lock.is_held
    end.push.staging.close()
    end.close()
