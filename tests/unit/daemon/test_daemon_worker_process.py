"""Worker processes: what they report, and that every one of them ends."""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from envsync.daemon.worker_process import WorkerProcess
from tests.support.processes import is_running


@pytest.fixture
def started() -> Iterator[list[WorkerProcess]]:
    workers: list[WorkerProcess] = []
    yield workers
    for worker in workers:
        worker.wait(0.0)


def start(started: list[WorkerProcess], code: str, *arguments: str) -> WorkerProcess:
    environ = {**os.environ, "NOTIFY_SOCKET": "/x", "JOURNAL_STREAM": "1:2"}
    worker = WorkerProcess(
        [sys.executable, "-S", "-c", f"import os, sys\n{code}", *arguments], environ
    )
    started.append(worker)
    return worker


def documents_of(worker: WorkerProcess) -> list[dict[str, Any]]:
    """Everything that it reports, until it is over."""
    found = []
    while not worker.is_over:
        assert select.select([worker.fd], [], [], 30)[0]
        found += worker.read()
    return found


def test_worker_documents_and_error_output_are_read(started: list[WorkerProcess]) -> None:
    worker = start(
        started,
        "print('no document'); print('[1]'); print('{\"a\": 1}', flush=True)\n"
        "print('{\"big\": \"' + 'x' * 300000 + '\"}'); sys.stderr.write('one\\ntwo')\n"
        "assert 'NOTIFY_SOCKET' not in os.environ and os.getcwd() == '/'\n"
        "assert os.getpgid(0) == os.getpid(); sys.exit(3)",
    )
    documents = documents_of(worker)
    assert documents[0] == {"a": 1}
    assert len(documents[1]["big"]) == 300000
    assert (worker.exit_status, worker.stderr_tail) == (3, "one\ntwo")


def test_worker_that_ignores_sigterm_is_killed_with_its_children(
    started: list[WorkerProcess],
) -> None:
    code = (
        "import signal, subprocess, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "other = subprocess.Popen(['sleep', '60'])\n"
        "print('{\"pid\": %d}' % other.pid, flush=True); time.sleep(60)"
    )
    worker = start(started, code)
    documents: list[dict[str, Any]] = []
    while not documents:
        assert select.select([worker.fd], [], [], 30)[0]
        documents = worker.read()
    worker.terminate()
    began = time.monotonic()
    worker.wait(began + 0.2)
    assert (worker.is_over, worker.exit_status) == (True, -9)
    # Far below the minute that both of them would sleep.
    assert time.monotonic() - began < 40
    while is_running(documents[0]["pid"]):
        assert time.monotonic() - began < 40
        time.sleep(0.01)


def test_a_line_without_end(started: list[WorkerProcess], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("envsync.daemon.worker_process.LINE_BYTES_MAX", 100_000)
    worker = start(started, "while True: os.write(1, b'x' * 10000)")
    assert documents_of(worker) == []
    assert worker.exit_status == -9
