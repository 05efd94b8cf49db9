"""The rows of `envsync list`."""

from __future__ import annotations

from envsync.agent.wire.server_operations import EnvironmentFacts, ListFacts
from envsync.cli.commands.list import rows_of
from envsync.push.queries.servers import Outcome
from envsync.tree.manifest import Totals

READ = EnvironmentFacts(
    name="myenv",
    revision="b196fb31b68f" + 52 * "0",
    record=None,
    drifted=False,
    totals=Totals(1300, 1268, 65_700_000),
    packages=9,
    generations=1,
    problem="",
)
UNREAD = READ._replace(
    revision="", totals=Totals(0, 0, 0), packages=0, problem="some files are not readable"
)


def test_environment_that_cannot_be_read_has_no_size() -> None:
    facts = ListFacts(environments=(READ, UNREAD), time_seconds=0.0)
    read, unread = rows_of(Outcome("server2", facts, None))
    assert read[2:6] == ("b196fb31b68f", "9", "65.7 MB", "1")
    assert unread[2:6] == ("-", "-", "-", "-")
    assert unread[-1] == "some files are not readable"


def test_environment_with_closed_records_has_its_revision() -> None:
    closed = READ._replace(generations=0, problem="what envsync keeps of it is closed")
    (row,) = rows_of(Outcome("server2", ListFacts((closed,), 0.0), None))
    assert row[2:] == ("b196fb31b68f", "9", "65.7 MB", "-", "-", "-", closed.problem)
