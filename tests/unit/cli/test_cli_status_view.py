"""What `envsync status` shows of what the daemon knows."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from envsync import __version__
from envsync.cli.output import status_view
from envsync.daemon.paths import DaemonPaths
from envsync.daemon.rows import (
    HALTED,
    HELD,
    IN_STEP,
    LAGGING,
    PUSHING,
    RETRYING,
    WAITING,
    DaemonState,
    ErrorFacts,
    ServerRow,
    SourceRow,
)
from envsync.daemon.status import DaemonFacts, document
from envsync.daemon.store import Store
from envsync.daemon.transitions import after_failure
from envsync.errors import EnvsyncError, HostKeyRefused
from tests.support.command_line import Envsync


def _error(message: str, hint: str = "", details: Sequence[str] = ()) -> ErrorFacts:
    return ErrorFacts.of(EnvsyncError(message, hint=hint, details=details))


REVISION = "ab" * 32
REFUSED = _error("server3 refuses connections", "check that sshd runs there")
DRIFTED = _error("it was changed there", "see what differs")
RUNNING = DaemonFacts(pid=7, inventory="/etc/envsync.yaml")


def shown(
    *servers: ServerRow, source: SourceRow | None = None, facts: DaemonFacts = RUNNING
) -> Any:
    source = source or SourceRow("myenv", REVISION)
    rows = {(row.environment, row.server): row for row in servers}
    return document(DaemonState({source.environment: source}, rows), {}, facts)


@pytest.mark.parametrize(
    ("row", "cells"),
    [
        (ServerRow("myenv", "s", IN_STEP, REVISION), ("abababababab", "in-step", "-")),
        (ServerRow("myenv", "s", PUSHING, next_try_seconds=1.0), ("-", "pushing", "-")),
        (ServerRow("myenv", "s", RETRYING, next_try_seconds=1.0), ("-", "retrying", "now")),
        (ServerRow("myenv", "s", WAITING), ("-", "waiting", "-")),
        (ServerRow("myenv", "s", HALTED, next_try_seconds=1e12), ("-", "halted", "-")),
        (ServerRow("myenv", "s", HELD, next_try_seconds=1e12), ("-", "held", "-")),
        (ServerRow("myenv", "s", LAGGING), ("-", "lagging", "-")),
    ],
)
def test_row_shows_state_and_revision(row: ServerRow, cells: tuple[str, ...]) -> None:
    [(environment, server, revision, state, _, next_try, why)] = status_view.rows(shown(row))
    assert (environment, server, why) == ("myenv", "s", "")
    assert (revision, state, next_try) == cells


def test_what_failed_before_is_not_told_while_it_is_tried_again() -> None:
    row = ServerRow("myenv", "s", PUSHING, error=_error("s refuses connections"))
    assert status_view.rows(shown(row))[0][-1] == ""
    assert "refuses" not in "".join(status_view.lines(shown(row), 100))


def test_next_try_is_shown() -> None:
    soon = ServerRow("myenv", "s2", RETRYING, next_try_seconds=time.time() + 60)
    late = ServerRow("myenv", "s3", RETRYING, next_try_seconds=time.time() + 7200)
    first, second = (row[5] for row in status_view.rows(shown(soon, late)))
    assert first.startswith("in ")
    assert first.endswith(" s")
    assert second.startswith("in ")
    assert "h" in second
    paused = SourceRow("myenv", REVISION, paused=True)
    assert [row[5] for row in status_view.rows(shown(soon, source=paused))] == ["paused"]
    assert [row[5] for row in status_view.rows(shown(soon, facts=DaemonFacts()))] == ["-"]


def test_installer_that_is_waited_for_is_shown_although_servers_are_in_step() -> None:
    conda = "waiting for conda (process 7)"
    state = shown(ServerRow("myenv", "s", IN_STEP, REVISION), ServerRow("myenv", "t", HALTED))
    state["environments"][0]["activity"] = conda
    assert [row[5] for row in status_view.rows(state)] == [conda, "-"]


def below_the_table(
    status: Any, columns: int, *, verbose: bool = False, height: int | None = None
) -> list[str]:
    lines = status_view.lines(status, columns, verbose=verbose, height=height)
    return lines[lines.index("") + 1 :]


def test_server_that_is_not_in_step_is_shown_with_its_hint() -> None:
    status = shown(
        ServerRow("myenv", "server2", HALTED, error=DRIFTED),
        ServerRow("myenv", "server3", RETRYING, error=REFUSED),
        ServerRow("myenv", "server4", IN_STEP, REVISION),
    )
    assert below_the_table(status, 80) == [
        "myenv on server2: it was changed there",
        "  → see what differs",
        "myenv on server3: server3 refuses connections",
        "  → check that sshd runs there",
    ]


def test_no_line_is_wider_than_the_screen() -> None:
    error = _error("a word " * 40, "another one " * 40)
    status = shown(
        ServerRow("myenv", "server2", HALTED, error=error),
        source=SourceRow("myenv", error=_error("it is gone " * 20)),
    )
    lines = below_the_table(status, 60, height=100)
    assert max(map(len, lines)) <= 60
    assert "".join(lines).count("word") == "".join(lines).count("another") == 40


def test_a_hint_is_not_folded_where_it_is_copied() -> None:
    hint = "correct it: " + "another one " * 40
    prose = ServerRow("myenv", "server2", HALTED, error=_error("x", "another one " * 40))
    assert max(map(len, below_the_table(shown(prose), 60))) <= 60
    row = ServerRow("myenv", "server2", HALTED, error=_error("a word " * 40, hint.strip()))
    *message, told = below_the_table(shown(row), 60)
    assert max(map(len, message)) <= 60
    assert told == f"  → {hint.strip()}"


def test_a_row_that_is_wider_than_the_terminal_is_not_folded() -> None:
    name, now = "gpu03.cluster.example.org", time.time()
    server = ServerRow("myenv", name, HALTED, REVISION, since_seconds=now, error=DRIFTED)
    titles, row, *below = status_view.lines(shown(server), 60)
    assert row.split() == ["myenv", name, REVISION[:12], "halted", "just", "now", "-"]
    assert titles.index("STATE") == row.index("halted")
    assert below == ["", f"myenv on {name}: it was changed there", "  → see what differs"]


def test_on_a_screen_that_is_too_small_rows_that_are_in_step_are_counted() -> None:
    fine = [ServerRow("myenv", f"s{number}", IN_STEP, REVISION) for number in range(30)]
    status = shown(*fine, ServerRow("myenv", "z", RETRYING, error=REFUSED))
    assert len(status_view.lines(status, 80, height=40)) == 36
    total, title, row, rest, *_, hint = status_view.lines(status, 80, height=24)
    assert total == "30 of 31 copies in step, 1 retrying"
    assert title.startswith("ENVIRONMENT")
    assert row.split()[1:4] == ["z", "-", "retrying"]
    assert (rest, hint) == ("... and 30 in step", "  → check that sshd runs there")
    assert len(status_view.lines(shown(*fine), 80, height=24)) == 32, "they are all there is"
    for height in range(10, 40):
        assert len(status_view.lines(status, 80, height=height)) <= height


def test_several_rows_are_summed_up_first() -> None:
    rows = [
        ServerRow("myenv", name, state, REVISION)
        for name, state in (("s", RETRYING), ("t", IN_STEP), ("u", HALTED), ("v", RETRYING))
    ]
    assert status_view.lines(shown(*rows), 80)[0] == ("1 of 4 copies in step, 1 halted, 2 retrying")
    assert status_view.lines(shown(rows[1]), 80)[0].startswith("ENVIRONMENT")


def test_what_several_servers_have_in_common_is_told_once() -> None:
    rows = [ServerRow("myenv", name, HALTED, error=DRIFTED) for name in ("s1", "s2")]
    found = below_the_table(shown(*rows), 80)
    assert found == [
        "myenv on s1, s2: it was changed there",
        "  → see what differs",
    ]


def test_status_without_a_daemon_says_how_to_start_one() -> None:
    assert "start one: envsync daemon" in "".join(
        status_view.whereabouts(document(DaemonState(), {}, DaemonFacts()))
    )
    [told] = status_view.whereabouts(shown(facts=DaemonFacts()))
    assert told == (
        "no daemon runs here (start one: envsync daemon); this is what the last one knew"
    )
    trouble = (
        "systemd cannot start envsync.service; see why: systemctl --user status envsync.service"
    )
    [told] = status_view.whereabouts(shown(facts=DaemonFacts(service_trouble=trouble)))
    assert told == f"no daemon runs here ({trouble}); this is what the last one knew"
    [told] = status_view.whereabouts(document(DaemonState(), {}, RUNNING))
    assert told.startswith("nothing is kept in step: /etc/envsync.yaml")
    assert not list(status_view.whereabouts(shown()))


def test_where_no_daemon_runs_none_is_asked_to_look_again() -> None:
    refused = HostKeyRefused("the host key has changed", hint="see which one it is")
    row = after_failure(ServerRow("myenv", "server2"), refused, REVISION, 0.0, 3600.0, 0.0)
    for facts, hint in (
        (RUNNING, "see which one it is; then: envsync daemon sync myenv"),
        (DaemonFacts(), "see which one it is"),
    ):
        assert [one.hint for one in status_view.troubles(shown(row, facts=facts))] == [hint]


def test_troubles_of_the_daemon_itself_are_shown() -> None:
    refused = _error("line 3: unknown key", details=["servers.x"])
    facts = DaemonFacts(
        pid=7, inventory_error=refused, trouble="the disk is full", polled={"myenv": "NFS"}
    )
    assert [trouble.message for trouble in status_view.troubles(shown(facts=facts))] == [
        "the inventory is refused, the old one stays in use: line 3: unknown key; servers.x",
        "the daemon cannot save its state: the disk is full",
        "myenv is checked every 10 s: NFS",
    ]


@pytest.mark.parametrize(("version", "named"), [("0.0.9", "0.0.9"), (None, "of an older version")])
def test_a_daemon_of_another_version_is_named_with_its_restart(
    version: str | None, named: str
) -> None:
    found = shown()
    assert found["daemon"]["version"] == __version__
    found["daemon"]["version"] = version
    [trouble] = status_view.troubles(found)
    assert trouble.message == f"the running daemon is envsync {named}, this is {__version__}"
    assert "systemctl restart envsync@USER" in trouble.hint


def test_status_without_a_daemon_compares_no_version() -> None:
    found = shown(facts=DaemonFacts())
    assert found["daemon"]["version"] is None
    assert not list(status_view.troubles(found))


def test_verbose_shows_what_is_in_the_way() -> None:
    error = _error("2 processes use it", details=["41  python", "42  bash"])
    found = shown(ServerRow("myenv", "s", WAITING, error=error))
    line = "myenv on s: 2 processes use it"
    assert below_the_table(found, 80) == [line]
    assert below_the_table(found, 80, verbose=True) == [
        line,
        "  41  python",
        "  42  bash",
    ]


NOTED = [
    ServerRow("myenv", server, IN_STEP, REVISION, warnings=("no driver",), changes=changes)
    for server, changes in (("s", ("a=1 -> a",)), ("t", ()))
]


def test_verbose_shows_what_pushes_warned_of_and_relaxed() -> None:
    assert not [line for line in status_view.lines(shown(*NOTED), 80) if "no driver" in line]
    assert below_the_table(shown(*NOTED), 80, verbose=True) == [
        "myenv on s: relaxed: a=1 -> a",
        "myenv on s, t: warning: no driver",
    ]


def test_verbose_prints_what_pushes_warned_of_for_a_pipe(envsync: Envsync, tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path / "home")}
    store = Store(DaemonPaths.of(home, socket.gethostname()).database)
    store.put_source(SourceRow("myenv", REVISION))
    for row in NOTED:
        store.put_server(row)
    store.close()
    line = "envsync: myenv on s, t: warning: no driver"
    assert line in envsync("status", "-v").err.splitlines()
    assert line not in envsync("status").err.splitlines()


@pytest.mark.parametrize(
    ("arguments", "variables", "named"),
    [
        ((), {}, " --config {daemon}"),
        (("--config", "other.yaml"), {}, " --config {daemon}"),
        (("--config", "lab.yaml"), {}, " --config lab.yaml"),
        ((), {"ENVSYNC_CONFIG": "lab.yaml"}, ""),
    ],
)
@pytest.mark.parametrize("form", [(), ("--json",)])
def test_hints_name_the_daemons_inventory_unless_it_is_used_anyway(
    envsync: Envsync,
    tmp_path: Path,
    arguments: tuple[str, ...],
    variables: dict[str, str],
    named: str,
    form: tuple[str, ...],
) -> None:
    inventory, home = tmp_path / "lab.yaml", {"HOME": str(tmp_path / "home")}
    store = Store(DaemonPaths.of(home, socket.gethostname()).database)
    store.put_inventory(str(inventory))
    store.put_source(SourceRow("myenv", REVISION))
    error = _error("it was changed there", "see: envsync diff myenv server2")
    store.put_server(ServerRow("myenv", "server2", HALTED, error=error))
    store.close()
    ended = envsync(*arguments, "status", *form, **variables)
    command = f"see: envsync{named.format(daemon=inventory)} diff myenv server2"
    assert command in ended.out + ended.err


def test_hints_name_the_daemons_inventory_where_another_users_is_refused(
    envsync: Envsync, tmp_path: Path
) -> None:
    """As in /tmp, where anybody may leave an inventory."""
    foreign = tmp_path / "envsync.yaml"
    foreign.write_text("servers: {}\n")
    foreign.chmod(0o666)
    home = {"HOME": str(tmp_path / "home")}
    store = Store(DaemonPaths.of(home, socket.gethostname()).database)
    store.put_inventory("/etc/lab.yaml")
    store.put_source(SourceRow("myenv", error=_error("gone", "envsync list here")))
    store.close()
    assert "→ envsync --config /etc/lab.yaml list here" in envsync("status").err


def test_each_hint_is_printed_once_below_its_reason_and_without_a_prefix(
    envsync: Envsync, tmp_path: Path
) -> None:
    home = {"HOME": str(tmp_path / "home")}
    store = Store(DaemonPaths.of(home, socket.gethostname()).database)
    store.put_source(SourceRow("myenv", error=_error("gone", "envsync list here")))
    for number in (2, 3):
        store.put_server(ServerRow("myenv", f"server{number}", RETRYING, error=REFUSED))
    store.close()
    ended = envsync("status")
    titles, first, _ = ended.out.splitlines()
    assert titles.index("REASON") == first.index("server3 refuses connections")
    lines = ended.err.splitlines()
    assert lines[-4:] == [
        "warning: myenv: gone",
        "  → envsync list here",
        "envsync: myenv on server2, myenv on server3: server3 refuses connections",
        "  → check that sshd runs there",
    ]
