"""What is said below the lines of a push."""

from __future__ import annotations

import io

import pytest

from envsync.agent.wire.messages import ProcessUse
from envsync.cli.output.terminal import Terminal
from envsync.cli.pushing.request import PushRequest
from envsync.cli.pushing.view import PushView
from envsync.push.request.places import Place
from envsync.push.request.settings import PushSettings
from envsync.push.steps.report import WAITING, PushReport, ServerProgress

SETTINGS = PushSettings("myenv", "server1:/conda", "alice@server1")
REQUEST = PushRequest(SETTINGS, Place("server1", "/conda"), ())


@pytest.mark.parametrize(("count", "shown"), [(5, 5), (6, 6), (7, 5)])
def test_many_warnings_are_cut_where_that_saves_lines(count: int, shown: int) -> None:
    told = io.StringIO()
    view = PushView(Terminal(io.StringIO(), told, {}), REQUEST, verbose=False)
    warnings = tuple(f"number {number}" for number in range(count))
    view.conclude([PushReport("server2", "myenv", "pushed", warnings=warnings)])
    lines = told.getvalue().splitlines()
    assert len([line for line in lines if line.startswith("warning: ")]) == shown
    assert len(lines) == min(count, shown + 1)
    if count > shown:
        assert lines[-1] == f"envsync: and {count - shown} more warnings: see them with -v"


def test_waiting_push_says_for_which_processes_and_how_long() -> None:
    told = io.StringIO()
    view = PushView(Terminal(told, io.StringIO(), {}), REQUEST, verbose=False)
    uses = [ProcessUse(number, f"python {number}") for number in range(5)]
    uses[0] = ProcessUse(0, "python --index https://u:secret@host/" + "x" * 99)
    view.on_progress(ServerProgress("server2", WAITING))
    view.on_progress(ServerProgress("server2", WAITING, waits_for=tuple(uses), wait_seconds=600.0))
    (line,) = told.getvalue().splitlines()
    assert line.startswith("myenv -> server2: 5 processes use it; waiting, 10 min 0 s at most: 0 ")
    assert line.endswith(" ..., 1 python 1, 2 python 2 and 2 more")
    assert "secret" not in line


def test_piped_push_has_a_line_for_each_try_of_a_tool() -> None:
    told = io.StringIO()
    view = PushView(Terminal(told, io.StringIO(), {}), REQUEST, verbose=False)
    view.on_progress(ServerProgress("server2", "rebuild"))
    view.on_progress(ServerProgress("server2", "rebuild", tool="conda 26.7.1", attempt=1))
    view.on_progress(
        ServerProgress("server2", "rebuild", tool="conda 26.7.1", attempt=2, step_seconds=130.0)
    )
    assert told.getvalue().splitlines() == [
        "myenv -> server2: conda 26.7.1 ...",
        "myenv -> server2: conda 26.7.1, try 2, after 2 min 10 s ...",
    ]
