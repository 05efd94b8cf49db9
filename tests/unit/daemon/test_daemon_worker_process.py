"""Children: what they say, and that every one of them ends."""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from envsync.daemon.worker_process import Child
from tests.lab.namespaces import is_running


@pytest.fixture
def started() -> Iterator[list[Child]]:
    children: list[Child] = []
    yield children
    for child in children:
        child.wait_over(0.0)


def start(started: list[Child], code: str, *arguments: str) -> Child:
    environ = {**os.environ, "NOTIFY_SOCKET": "/x", "JOURNAL_STREAM": "1:2"}
    child = Child([sys.executable, "-S", "-c", f"import os, sys\n{code}", *arguments], environ)
    started.append(child)
    return child


def heard(child: Child) -> list[dict[str, Any]]:
    """Everything that it says, until it is over."""
    found = []
    while not child.is_over:
        assert select.select([child.fd], [], [], 30)[0]
        found += child.read()
    return found


def test_what_it_says(started: list[Child]) -> None:
    child = start(
        started,
        "print('no document'); print('[1]'); print('{\"a\": 1}', flush=True)\n"
        "print('{\"big\": \"' + 'x' * 300000 + '\"}'); sys.stderr.write('one\\ntwo')\n"
        "assert 'NOTIFY_SOCKET' not in os.environ and os.getcwd() == '/'\n"
        "assert os.getpgid(0) == os.getpid(); sys.exit(3)",
    )
    documents = heard(child)
    assert documents[0] == {"a": 1}
    assert len(documents[1]["big"]) == 300000
    assert (child.status, child.said) == (3, "one\ntwo")


def test_one_that_does_not_listen_is_killed_with_all_that_it_started(
    started: list[Child],
) -> None:
    code = (
        "import signal, subprocess, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "other = subprocess.Popen(['sleep', '60'])\n"
        "print('{\"pid\": %d}' % other.pid, flush=True); time.sleep(60)"
    )
    child = start(started, code)
    documents: list[dict[str, Any]] = []
    while not documents:
        assert select.select([child.fd], [], [], 30)[0]
        documents = child.read()
    child.end()
    began = time.monotonic()
    child.wait_over(began + 0.2)
    assert (child.is_over, child.status) == (True, -9)
    # Far below the minute that both of them would sleep.
    assert time.monotonic() - began < 40
    while is_running(documents[0]["pid"]):
        assert time.monotonic() - began < 40
        time.sleep(0.01)


def test_a_line_without_end(started: list[Child], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("envsync.daemon.worker_process.LINE_BYTES_MAX", 100_000)
    child = start(started, "while True: os.write(1, b'x' * 10000)")
    assert heard(child) == []
    assert child.status == -9
