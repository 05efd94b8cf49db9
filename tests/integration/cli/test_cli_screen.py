"""What many servers at once leave on a terminal, drawn as a terminal draws it."""

from __future__ import annotations

import io
import re
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from envsync.cli.output.progress import LiveProgress
from envsync.cli.output.terminal import Terminal
from envsync.push.steps.report import ServerProgress


class _Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def _left_on(screen: str, height: int = 1000) -> list[str]:
    """Return the rows of a terminal that was given this text, without the empty ones.

    Those that scrolled out of its height cannot be reached any more.
    """
    rows, row, column = [""], 0, 0
    for move in re.finditer(r"\x1b\[[?0-9;]*(\w)|[\r\n]|[^\x1b\r\n]+", screen):
        if move[1] == "A":
            row = max(row - 1, len(rows) - height, 0)
        elif move[1] == "K":
            rows[row] = ""
        elif move[0] == "\n":
            row, column = row + 1, 0
            rows += [""] if row == len(rows) else []
        elif move[0] == "\r":
            column = 0
        elif move[1] is None:
            end = column + len(move[0])
            rows[row] = rows[row][:column].ljust(column) + move[0] + rows[row][end:]
            column = end
    return [row for row in rows if row]


def test_many_servers_at_once_leave_only_their_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    """No line that moved stays on the screen, and no report is overwritten."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    screen = _Screen()
    terminal = Terminal(screen, io.StringIO(), {"TERM": "xterm"})
    servers = [f"gpu{number:02}" for number in range(30)]
    environments = ("one", "three", "two")
    live = LiveProgress(terminal, "server1", servers)

    def push(server: str) -> None:
        for environment in environments:
            live.update(ServerProgress(server, "connect"))
            live.update(ServerProgress(server, "publish"))
            live.remove(server)
            terminal.say(f"{environment} -> {server}: published")

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        live.start()
        with ThreadPoolExecutor(len(servers)) as pool:
            list(pool.map(push, servers))
        live.stop()
    finally:
        sys.setswitchinterval(interval)
    reports = [
        f"{environment} -> {one}: published" for environment in environments for one in servers
    ]
    assert sorted(_left_on(screen.getvalue())) == reports


def test_more_servers_than_rows_leave_nothing_when_a_push_is_stopped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in (("TERM", "xterm"), ("COLUMNS", "100"), ("LINES", "20")):
        monkeypatch.setenv(name, value)
    screen = _Screen()
    terminal = Terminal(screen, io.StringIO(), {"TERM": "xterm"})
    servers = [f"gpu{number:02}" for number in range(60)]
    live = LiveProgress(terminal, "server1", servers)
    live.start()
    for server in servers:
        live.update(ServerProgress(server, "connect"))
    terminal.say("a report")
    live.stop()
    assert _left_on(screen.getvalue(), 20) == ["a report"]
