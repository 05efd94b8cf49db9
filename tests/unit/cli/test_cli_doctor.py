"""What `envsync doctor` shows of the complaints about servers."""

from __future__ import annotations

import io

import pytest

from envsync.cli.commands.doctor import errors_and_remarks, show_remarks
from envsync.cli.output.terminal import Terminal
from envsync.errors import ConnectionFailed, PreflightRefused
from envsync.push.queries.diagnosis import Complaint
from envsync.push.queries.examination import Examination

CLOSED = Complaint("envs is not writable", "chmod u+w envs", fails=True)
FULL = Complaint("only 1.0 MB are free", "envsync gc server2", fails=True)
SLOW = Complaint("no zstd there", "conda install zstandard")


def test_every_complaint_is_shown_if_several_of_one_server_fail() -> None:
    server2, server3 = Examination("server2", "/conda"), Examination("server3", "/conda")
    examined = [(server2, (CLOSED, FULL, SLOW)), (server3, (SLOW,))]
    [error], remarks = errors_and_remarks(examined)
    assert isinstance(error, PreflightRefused)
    assert (error.message, error.hint, error.server) == (*CLOSED[:2], "server2")
    assert remarks == [("server2", FULL), ("server2", SLOW), ("server3", SLOW)]


def test_error_that_ended_an_examination_is_the_servers() -> None:
    ended = ConnectionFailed("no answer")
    examination = Examination("server2", "/conda", error=ended)
    complaint = Complaint(ended.message, ended.hint, fails=True)
    assert errors_and_remarks([(examination, (complaint,))]) == ([ended], [])


@pytest.mark.parametrize(
    ("command", "solutions"),
    [
        ("envsync gc {}", ["→ envsync gc gpu1 gpu2 gpu3 gpu4 gpu5"]),
        (
            "envsync diff myenv {} --published",
            [
                *(f"→ envsync diff myenv gpu{number} --published" for number in (1, 2, 3)),
                "and likewise on 2 more servers",
            ],
        ),
        ("install one there", ["→ install one there"]),
    ],
)
def test_one_complaint_of_several_servers_is_solved_for_each(
    command: str, solutions: list[str]
) -> None:
    out = io.StringIO()
    servers = [f"gpu{number}" for number in range(1, 6)]
    remarks = [
        (server, Complaint("something is odd", command.format(server))) for server in servers
    ]
    show_remarks(Terminal(out, out, {}), remarks)
    assert out.getvalue().splitlines() == [
        f"{', '.join(servers)}: something is odd",
        *(f"  {line}" for line in solutions),
    ]


def test_a_command_is_not_folded() -> None:
    """A command that is copied with a line break in it is another command."""

    class Narrow(io.StringIO):
        def isatty(self) -> bool:
            return True

    out = Narrow()
    command = "ssh -t alice@server2 'vi ~/.bashrc  # begin it with: [[ $- == *i* ]] || return'"
    terminal = Terminal(out, out, {"COLUMNS": "60"})
    show_remarks(terminal, [("server2", Complaint("something is odd", command))])
    assert out.getvalue().splitlines()[1:] == [f"  → {command}"]
