"""What is said below the lines of a push."""

from __future__ import annotations

import io

import pytest

from envsync.cli.output.terminal import Terminal
from envsync.cli.pushing.order import PushOrder
from envsync.cli.pushing.view import PushView
from envsync.push.order.places import Place
from envsync.push.order.settings import PushSettings
from envsync.push.steps.report import PushReport

SETTINGS = PushSettings("myenv", "/conda", "server1:/conda", "alice@server1")
ORDER = PushOrder(SETTINGS, Place("server1", "/conda"), ())


@pytest.mark.parametrize(("count", "shown"), [(5, 5), (6, 6), (7, 5)])
def test_many_warnings_are_cut_where_that_saves_lines(count: int, shown: int) -> None:
    told = io.StringIO()
    view = PushView(Terminal(io.StringIO(), told, {}), ORDER, "server1", verbose=False)
    warnings = tuple(f"number {number}" for number in range(count))
    view.conclude([PushReport("server2", "myenv", "pushed", warnings=warnings)])
    lines = told.getvalue().splitlines()
    assert len([line for line in lines if line.startswith("warning: ")]) == shown
    assert len(lines) == min(count, shown + 1)
    if count > shown:
        assert lines[-1] == f"envsync: and {count - shown} more warnings: see them with -v"
