"""`envsync history` reads lines of a file on the server, which somebody may have edited."""

from __future__ import annotations

import io

from envsync.cli.commands.history import OPTIONAL, TITLES, Event, Past, events_of, rows_of
from envsync.cli.output.terminal import Terminal

ROLLBACK: dict[str, object] = {
    "event": "rollback",
    "number": 2,
    "when_seconds": 1,
    "source_revision": "5" * 64,
}


def test_a_line_with_some_of_the_fields_is_an_event() -> None:
    event = Event("rollback", 2, 1.0, "5" * 64, "5" * 64)
    assert list(events_of([{**ROLLBACK, "holds": "another version's field"}])) == [event]


def test_a_malformed_line_is_left_out() -> None:
    malformed: list[dict[str, object]] = [
        {**ROLLBACK, "who": None},
        {**ROLLBACK, "number": "2"},
        {"when_seconds": 1e300},
    ]
    assert len(list(events_of([*malformed, ROLLBACK]))) == 1


class _Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_rows_fit_a_narrow_terminal_with_their_numbers_and_whether_they_are_kept() -> None:
    screen = _Screen()
    past = Past((Event(who="alice@server1", when_seconds=1.0, event="adopt", number=12),), ())
    rows = [row[: len(TITLES)] for _, row in rows_of("gpu03.example.org", past)]
    Terminal(screen, screen, {"COLUMNS": "60"}).table(TITLES, rows, optional=OPTIONAL)
    titles, row, left_out = screen.getvalue().splitlines()
    assert titles.split()[-3:] == ["NUMBER", "WHAT", "KEPT"]
    assert len(row) <= 60
    assert left_out == "left out here: BY, REVISION"
