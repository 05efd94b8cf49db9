"""`envsync history` reads lines of a file on the server, which somebody may have edited."""

from __future__ import annotations

from envsync.cli.commands.history import Event, events_of

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
