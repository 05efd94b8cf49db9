"""The lines that a push prints, from its report."""

from __future__ import annotations

from dataclasses import replace

from envsync.agent.wire.messages import PlanFacts, ProcessUse, RecordFacts
from envsync.cli.pushing.report_text import report_lines
from envsync.errors import ConnectionFailed, TargetDrifted
from envsync.push.steps.report import PushReport
from envsync.tree.manifest import Totals

REVISION = "3f9a1c0be2d4" + "0" * 52
PUSHED = PushReport(
    server="server2",
    environment="myenv",
    outcome="pushed",
    revision="17e06486" + "0" * 56,
    source_revision=REVISION,
    totals=Totals(65_000, 61_204, 1_900_000_000),
    plan=PlanFacts(
        "live", 212, 3_100_000, 60_992, 1_890_000_000, 3, 3_200_000, ("numpy 1 -> 2",), 0, ()
    ),
    transport="stream",
    transport_reason="it needs only Python there",
    wire_bytes=1_000_000,
    seconds=1.94,
    step_seconds={"connect": 0.3, "inspect": 0.001, "transfer": 1.2},
)


def _lines(report: PushReport, *, verbose: bool = False) -> list[str]:
    return list(report_lines(report, verbose=verbose))


def test_line_of_a_push_has_contents_and_what_was_sent() -> None:
    (line,) = _lines(PUSHED)
    contents, _, sent = line.partition("; ")
    assert contents == "myenv -> server2: 61,204 files, 1.9 GB"
    assert sent == "212 files sent (3.1 MB, 1.0 MB on the wire, stream), 1.9 s"


def test_direct_transfer_is_said_once() -> None:
    line = _lines(replace(PUSHED, transport="direct", route="direct"))[0]
    assert "(3.1 MB, 1.0 MB on the wire, direct)" in line


def test_pushed_without_a_count_of_the_wire() -> None:
    line = _lines(replace(PUSHED, wire_bytes=None))[0]
    assert "212 files sent (3.1 MB, stream)" in line


def test_how_the_server_was_reached_is_told_to_who_asks() -> None:
    report = replace(PUSHED, connection="ssh", connection_reason="a live ControlMaster for gpu02")
    assert "  connection ssh: a live ControlMaster for gpu02" in _lines(report, verbose=True)
    assert not any("ControlMaster" in line for line in _lines(report))
    here = replace(PUSHED, connection="here", connection_reason="")
    assert "  connection here" in _lines(here, verbose=True)


def test_what_was_compiled_and_is_not_sent_is_counted_for_who_asks() -> None:
    report, line = replace(PUSHED, compiled_left_out=2), "  2 compiled files of rewritten modules"
    assert any(shown.startswith(line) for shown in _lines(report, verbose=True))
    assert not any("compiled" in shown for shown in _lines(report))
    assert not any("compiled" in shown for shown in _lines(PUSHED, verbose=True))


def test_line_of_a_push_that_sent_nothing_says_so() -> None:
    assert PUSHED.plan is not None
    plan = PUSHED.plan._replace(fetch_files=0, fetch_bytes=0)
    assert _lines(replace(PUSHED, plan=plan)) == [
        "myenv -> server2: 61,204 files, 1.9 GB; nothing to send, 1.9 s"
    ]
    removing = replace(PUSHED, plan=plan._replace(removed_files=19_996))
    assert _lines(removing)[0].endswith("; nothing to send, 19,996 files removed, 1.9 s")
    planned = _lines(replace(removing, outcome="planned"))[0]
    assert planned.endswith("; nothing to send, 19,996 files would be removed")


def test_an_update_does_not_count_what_it_removes() -> None:
    plan = PUSHED.plan
    assert plan is not None
    assert _lines(replace(PUSHED, plan=plan._replace(removed_files=212))) == _lines(PUSHED)


def test_line_of_a_server_in_step_has_the_revision() -> None:
    record = RecordFacts(
        1, REVISION, REVISION, "alice@server1", "", 1e9, "mirror", "stream", Totals(0, 0, 0), "", ""
    )
    report = replace(PUSHED, outcome="in-step", plan=None, seconds=0.8, record=record)
    assert _lines(report) == ["myenv -> server2: already at 3f9a1c0be2d4 (0.8 s)"]
    assert _lines(replace(report, record=None)) == [
        "myenv -> server2: already at 3f9a1c0be2d4, would be put on record (0.8 s)"
    ]
    assert _lines(replace(report, outcome="adopted")) == [
        "myenv -> server2: already at 3f9a1c0be2d4, put on record (0.8 s)"
    ]


def test_lines_of_a_dry_run_say_what_would_be_sent() -> None:
    assert _lines(replace(PUSHED, outcome="planned")) == [
        "myenv -> server2: 61,204 files, 1.9 GB; 212 files to send (3.1 MB)",
        "  numpy 1 -> 2",
        "  60,992 files (1.9 GB) would be copied on the server",
        "  disk space needed: 3.2 MB",
    ]


def test_dry_run_says_what_would_be_on_the_wire() -> None:
    line = _lines(replace(PUSHED, outcome="planned", predicted_wire_bytes=1_000_000))[0]
    assert line.endswith("212 files to send (3.1 MB, about 1.0 MB on the wire)")


def test_dry_run_that_would_be_refused() -> None:
    line = _lines(replace(PUSHED, outcome="planned", error=TargetDrifted("changed")))[0]
    assert line.startswith("myenv -> server2: would be refused; otherwise 61,204 files")


def test_line_of_a_failure_has_the_code_of_its_error() -> None:
    report = PushReport("server2", "myenv", "failed", seconds=3.2, error=TargetDrifted("changed"))
    assert _lines(report) == ["myenv -> server2: failed (drift), 3.2 s"]


def test_events_of_a_push_follow_its_line() -> None:
    report = replace(
        PUSHED,
        in_use=(ProcessUse(17, "python train.py"),),
        overwritten="the replaced version is kept as a generation",
        put_back="it was removed there; this puts it back",
        recovered="an interrupted switch was completed",
    )
    assert _lines(report)[1:] == [
        "  an interrupted switch was completed",
        "  the replaced version is kept as a generation",
        "  it was removed there; this puts it back",
        "  1 process uses it: files that are open do not change",
    ]


def test_line_of_a_server_that_was_not_reached_has_no_revision() -> None:
    failed = PushReport("server2", "myenv", "failed", error=ConnectionFailed("it is off"))
    assert _lines(failed, verbose=True) == ["myenv -> server2: failed (connection-failed), 0.0 s"]


def test_verbose_lines_have_processes_and_reasons() -> None:
    uses = (ProcessUse(17, "python train.py"), ProcessUse(18, "python", "bob"))
    report = replace(PUSHED, in_use=uses)
    assert _lines(report, verbose=True)[2:] == [
        "  revision 3f9a1c0be2d4",
        "  transport stream: it needs only Python there",
        "  connect 0.3 s, transfer 1.2 s",
        "  in use by 17: python train.py",
        "  in use by 18 (bob): python",
    ]
