"""The help texts, word for word, and what it costs to print one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from envsync.cli.invocation.lazy_group import LazyGroup
from envsync.cli.run.program import COMMANDS, program
from tests.support.command_line import Envsync

GOLDEN = Path(__file__).parent / "help"
WRITE = "ENVSYNC_WRITE_HELP"
"""Set it to write the texts anew; then read the difference."""

PATHS = [
    "",
    *(name for name in COMMANDS if name != "demo"),
    "config check",
    "config path",
    "daemon install",
    "daemon pause",
    "daemon resume",
    "daemon sync",
]
HEAVY = (
    "asyncio", "cryptography", "envsync.agent", "envsync.push", "envsync.ssh", "envsync.transport",
    "fabric", "invoke", "paramiko", "pydantic", "rich", "watchdog", "yaml", "zstandard",
)  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_help_is_as_it_was_read_and_approved(envsync: Envsync, path: str) -> None:
    ended = envsync(*path.split(), "--help")
    assert (ended.status, ended.err) == (0, "")
    golden = GOLDEN / f"{path.replace(' ', '-') or 'envsync'}.txt"
    if os.environ.get(WRITE):
        golden.write_text(ended.out)
    assert ended.out == golden.read_text()


def test_at_80_columns_what_is_set_line_by_line_stays_so(
    envsync: Envsync, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for path in PATHS:
        lines = envsync(*path.split(), "--help").out.splitlines()
        assert max(map(len, lines)) <= 80, path
        outside = [line for line in lines if line and not line.startswith(" ")]
        assert {line.split()[0] for line in outside} <= {"Usage:", "Options:", "Commands:"}, path


def test_no_command_shows_the_help(envsync: Envsync) -> None:
    assert envsync().out == envsync("--help").out


@pytest.mark.parametrize("path", ["", "config"])
def test_the_summary_is_that_of_the_command(path: str) -> None:
    with program.make_context("envsync", ["--config", "x"], resilient_parsing=True) as context:
        group = program.get_command(context, path) if path else program
        assert isinstance(group, LazyGroup)
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            assert command.get_short_help_str(limit=100) == group.entries[name].summary


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_and_version_import_nothing_heavy(option: str) -> None:
    code = (
        "import sys; from envsync.cli.run.entry import run; "
        "from envsync.cli.invocation.invocation import Invocation; "
        "run([sys.argv[1]], Invocation({})); print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, option], capture_output=True, text=True, check=True
    )
    loaded = done.stderr.split()
    heavy = [name for name in loaded if name.startswith(tuple(f"{part}." for part in HEAVY))]
    assert not heavy
    assert not set(HEAVY).intersection(loaded)
