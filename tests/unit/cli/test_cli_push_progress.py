"""The lines that move, drawn on a terminal that is a string."""

from __future__ import annotations

import io
import re
from collections.abc import Callable

import click
import pytest

from envsync.cli.output import progress as push_progress
from envsync.cli.output.progress import LiveProgress, Rate
from envsync.cli.output.terminal import Terminal
from envsync.push.steps.report import ServerProgress

Watched = tuple[LiveProgress, Callable[[], str]]


class _Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    """A display, and what it shows when asked; then its lines are gone."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    screen = _Screen()
    terminal = Terminal(screen, io.StringIO(), {"TERM": "xterm"})
    assert terminal.is_interactive
    live = LiveProgress(terminal, "server1", ["server2", "server3"])

    def shown() -> str:
        screen.truncate(0)
        live.start()
        live.stop()
        return screen.getvalue()

    return live, shown


def test_a_line_for_each_server(watched: Watched) -> None:
    live, shown = watched
    live.update(ServerProgress("server2", "connect"))
    live.update(ServerProgress("server3", "transfer", 1_000_000, 4_000_000, files=12))
    text = shown()
    assert "server2 connect" in text
    assert "12 files, 1.0 MB of 4.0 MB" in text


def test_the_rate_is_that_of_the_last_half_minute_up_to_now() -> None:
    now = 0.0
    rate = Rate(0, lambda: now)
    now = 0.9
    rate.add(9_000_000)
    assert rate.bytes_per_second() is None, "that only filled buffers"
    now = 1.5
    rate.add(9_400_000)
    assert rate.bytes_per_second() is None, "a moment says nothing"
    now = 4.9
    assert rate.bytes_per_second() == 100_000, "nothing came since, and that counts"
    for second in range(5, 105):
        now = float(second)
        rate.add(9_400_000 + 2_000_000 * (second - 4))
    assert rate.bytes_per_second() == pytest.approx(2_000_000, rel=0.05)


def test_the_time_that_is_left(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    live, shown = watched
    live.update(ServerProgress("server2", "transfer", 0, 900_000_000))
    live.update(ServerProgress("server2", "transfer", 8_000_000, 900_000_000))
    assert "left" not in shown(), "it has only begun"
    monkeypatch.setattr(push_progress.Rate, "bytes_per_second", lambda _: 1e6)
    live.update(ServerProgress("server2", "transfer", 8_000_000, 900_000_000))
    assert "8.0 MB of 900 MB, 1.0 MB/s, 14 min 52 s left" in shown()
    live.update(ServerProgress("server2", "transfer", 880_000_000, 900_000_000))
    assert "1.0 MB/s, 20 s left" in shown()


def test_a_new_step_begins_at_nothing(watched: Watched) -> None:
    live, shown = watched
    live.update(ServerProgress("server2", "transfer", 4_000_000, 4_000_000))
    live.update(ServerProgress("server2", "verify"))
    text = shown()
    assert "server2 verify" in text
    assert "MB" not in text


def test_a_tool_that_runs_is_shown_with_its_try_and_how_long_it_takes(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    now = 0.0
    monkeypatch.setattr("rich.console.monotonic", lambda: now)
    live, shown = request.getfixturevalue("watched")
    live.update(ServerProgress("server2", "rebuild"))
    now = 20.0
    live.update(ServerProgress("server2", "rebuild", tool="conda 26.7.1", attempt=1))
    now = 95.0
    assert "conda 26.7.1, 75 s" in shown()
    live.update(ServerProgress("server2", "rebuild", tool="conda 26.7.1", attempt=2))
    now = 98.0
    assert "conda 26.7.1, try 2, 3 s" in shown()
    live.update(ServerProgress("server2", "rebuild", 1_000_000))
    text = shown()
    assert "1.0 MB" in text
    assert "conda" not in text


def test_the_source_goes_when_it_is_known(watched: Watched) -> None:
    live, shown = watched
    live.update(ServerProgress("server1", "inspect", 5_000_000))
    assert "server1 inspect" in shown()
    live.update(ServerProgress("server2", "preflight"))
    assert "server1" not in shown()


def test_a_server_that_is_done_goes(watched: Watched) -> None:
    live, shown = watched
    live.update(ServerProgress("server2", "publish"))
    live.ended("server2", is_failed=False)
    live.ended("server9", is_failed=True)
    assert "server2" not in shown()


def test_names_are_escaped(watched: Watched) -> None:
    live, shown = watched
    live.update(ServerProgress("a\x1b]0;b\x07", "[bold]x"))
    text = shown()
    assert "a\\x1b]0;b\\x07" in text
    assert "[bold]x" in text


@pytest.mark.parametrize("environ", [{}, {"NO_COLOR": "1"}])
def test_no_color_leaves_letters_as_they_are(
    monkeypatch: pytest.MonkeyPatch, environ: dict[str, str]
) -> None:
    """Neither coloured nor dim."""
    environ["TERM"] = "xterm"
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    screen = _Screen()
    live = LiveProgress(Terminal(screen, io.StringIO(), environ), "server1", ["server2"])
    live.update(ServerProgress("server2", "transfer", 1_000_000, 4_000_000))
    live.start()
    live.stop()
    assert "server2" in screen.getvalue()
    assert bool(re.search(r"\x1b\[[0-9;]*m", screen.getvalue())) == ("NO_COLOR" not in environ)


def test_of_many_servers_a_line_tells_how_many_are_done() -> None:
    screen = _Screen()
    servers = [f"gpu{number}" for number in range(9)]
    live = LiveProgress(Terminal(screen, io.StringIO(), {"TERM": "xterm"}), "server1", servers)
    live.update(ServerProgress("gpu0", "transfer"))
    live.ended("gpu1", is_failed=False)
    live.ended("gpu2", is_failed=True)
    live.start()
    [total, line] = screen.getvalue().splitlines()
    assert total.endswith("1 of 9 done, 1 failed")
    assert "gpu0" in line
    screen.truncate(0)
    live.stop()
    assert "done" not in screen.getvalue()


def test_ctrl_c_begins_no_new_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """The terminal writes `^C` behind what moves; on another line, that would stay there."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")
    screen = _Screen()
    live = LiveProgress(Terminal(screen, io.StringIO(), {"TERM": "xterm"}), "server1", ["server2"])
    live.update(ServerProgress("server2", "transfer", 1_000_000, 4_000_000, files=123_456))
    live.start()
    live.stop()
    lines = [click.unstyle(line) for line in re.split(r"[\r\n]", screen.getvalue())]
    shown = [line for line in lines if "server2" in line]
    assert shown
    assert all(len(line) <= 60 - len("^C^C^C") for line in shown)


def test_half_a_figure_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """`5.2 MB/s` without its end looks as if 5.2 MB were something else."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(push_progress.Rate, "bytes_per_second", lambda _: 5.2e6)
    name = "workstation-2.imaging.biology.example"
    for columns in range(60, 130):
        monkeypatch.setenv("COLUMNS", str(columns))
        screen = _Screen()
        live = LiveProgress(Terminal(screen, io.StringIO(), {"TERM": "xterm"}), "server1", [name])
        live.update(ServerProgress(name, "transfer", 11_800_000, 65_700_000))
        live.start()
        live.stop()
        text = click.unstyle(screen.getvalue())
        shown = text[text.index(name) :].splitlines()[0].partition("transfer")[2].strip(" ━╸╺")
        whole = "11.8 MB of 65.7 MB", "5.2 MB/s", "10 s left"
        assert set(filter(None, shown.split(", "))) <= set(whole), (columns, shown)
    assert shown == ", ".join(whole)
