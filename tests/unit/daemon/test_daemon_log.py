"""Lines for people, and fields for the journal."""

from __future__ import annotations

import os
import re
import socket
import sys
from pathlib import Path

import pytest

from envsync.daemon import log as module
from envsync.daemon.log import NOTICE, WARNING, Log, entry
from envsync.daemon.rows import ErrorFacts
from envsync.errors import ConnectionFailed, RevisionHeld

HELD = ErrorFacts.of(RevisionHeld("it is held there", hint="insist with --retry-held"))


def test_line_that_does_not_go_to_a_terminal_has_the_date() -> None:
    lines: list[str] = []
    log = Log(lines.append, {})
    log.notice("published ab12", environment="myenv", server="server2", revision="ab12")
    log.failure(HELD, environment="myenv")
    assert [line[20:] for line in lines] == [
        "myenv -> server2: published ab12",
        "myenv: it is held there -> insist with --retry-held",
    ]
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ", lines[0])


def test_an_entry_of_the_journal() -> None:
    assert entry(NOTICE, "published", {"server": "server2"}) == (
        b"MESSAGE=published\nPRIORITY=5\nSYSLOG_IDENTIFIER=envsync\nENVSYNC_SERVER=server2\n"
    )
    # What somebody else wrote adds no field of its own.
    assert entry(WARNING, "one\nPRIORITY=0", {}).startswith(
        b"MESSAGE\n\x0e\0\0\0\0\0\0\0one\nPRIORITY=0\nPRIORITY=4\n"
    )


def test_credentials_are_in_no_line() -> None:
    lines: list[str] = []
    message = "no answer from https://alice:s3cret@server/t/tk-s3cret/x"
    error = ErrorFacts.of(ConnectionFailed(message, hint="--token s3cret"))
    Log(lines.append, {}).failure(error, environment="myenv")
    assert "no answer from https://" in lines[0]
    assert "s3cret" not in lines[0]


def test_log_under_systemd_has_fields_for_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    status = os.fstat(sys.stderr.fileno())
    environ = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
    monkeypatch.setattr(module, "_JOURNAL", str(tmp_path / "journal"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(str(tmp_path / "journal"))
        log = Log(lines.append, environ)
        log.failure(HELD, environment="myenv", server="server2")
        told = journal.recv(10_000)
        log.info("https://alice:s3cret@server/")
        assert b"s3cret" not in journal.recv(10_000)
        log.info("caf\udce9\x1b[31m\nx-1.0 is installed in part")
        assert rb"MESSAGE=caf\xe9\x1b[31m\nx-1.0 is" in journal.recv(10_000)
    assert b"MESSAGE=myenv -> server2: it is held there -> insist" in told
    assert b"PRIORITY=4\n" in told
    assert b"ENVSYNC_CODE=held\n" in told
    assert lines == []
    log.info("on")  # the journal is gone: its stream takes lines with their priority
    assert lines == ["<6>on"]
    log.close()
    Log(lines.append, environ).info("still")
    assert lines[1] == "<6>still"
    Log(lines.append, {"JOURNAL_STREAM": "1:2"}).info("stderr leads elsewhere")
    assert lines[2][20:] == "stderr leads elsewhere"
