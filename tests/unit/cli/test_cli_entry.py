"""How a run ends: errors in words and in JSON, bugs, interruptions."""

from __future__ import annotations

import errno
import json
import re
import signal
from pathlib import Path
from typing import Any, NoReturn

import pytest

from envsync.cli.invocation import asking
from envsync.cli.invocation.lazy_group import LazyGroup
from envsync.cli.invocation.stop_signals import Stopped, Stopper
from envsync.cli.run.entry import Interruption
from envsync.cli.run.program import COMMANDS, program
from tests.support.command_line import Envsync
from tests.support.documented_json import check_document


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("push", "envsync: missing argument 'ENV'\n  → envsync push --help\n"),
        ("pusj", "envsync: no such command 'pusj'; did you mean 'push'?\n  → envsync --help\n"),
        ("xyz", "envsync: no such command 'xyz'\n  → envsync --help\n"),
        ("config", "envsync: missing command\n  → envsync config --help\n"),
        (
            "config chek",
            "envsync: no such command 'chek'; did you mean 'check'?\n  → envsync config --help\n",
        ),
        (
            "daemon status",
            (
                "envsync: no such command 'status'; did you mean 'envsync status'?\n"
                "  → envsync daemon --help\n"
            ),
        ),
        # What is not for people is offered to none.
        ("daemon wark", "envsync: no such command 'wark'\n  → envsync daemon --help\n"),
        (
            "remove e",
            "envsync: missing argument 'SERVER|@GROUP|RANGE'\n  → envsync remove --help\n",
        ),
        (
            "push --overwite",
            (
                "envsync: no such option '--overwite'; did you mean '--overwrite'?\n"
                "  → envsync push --help\n"
            ),
        ),
        (
            "push myenv server2 --limit",
            "envsync: option '--limit' requires an argument\n  → envsync push --help\n",
        ),
        ("diff myenv", "envsync: missing argument 'SERVER'\n  → envsync diff --help\n"),
    ],
)
def test_a_command_line_that_makes_no_sense(envsync: Envsync, line: str, message: str) -> None:
    ended = envsync(*line.split())
    assert (ended.status, ended.out, ended.err) == (2, "", message)


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        ("rollback --to x myenv h --json", "rollback"),
        ("rollback myenv --json", "rollback"),
        ("push --nonsense --json", "push"),
        ("push myenv h --json --limit", "push"),
        ("nonsense --json", ""),
    ],
)
def test_json_names_the_command_that_was_misused(
    arguments: str, command: str, envsync: Envsync
) -> None:
    document = check_document(envsync(*arguments.split()).out)
    assert (document["command"], document["exit_code"]) == (command, 2)


def test_no_command_with_json_is_a_document(envsync: Envsync) -> None:
    document = check_document(envsync("--json").out)
    assert (document["command"], document["exit_code"]) == ("", 2)
    assert document["error"]["message"] == "missing command"


def test_usage_error_with_json_is_a_document(envsync: Envsync) -> None:
    ended = envsync("push", "--nonsense", "--json")
    document = check_document(ended.out)
    assert (ended.status, ended.err) == (2, "")
    assert document["error"]["code"] == "usage"
    assert document["result"] is None


def test_without_conda_and_without_an_inventory(envsync: Envsync) -> None:
    ended = envsync("push", "myenv", "server2")
    assert (ended.status, ended.out) == (2, "")
    assert ended.err == (
        "envsync: no conda was found here: its base directory is unknown\n"
        "  → activate conda (`conda activate`), or write an inventory with `prefix:`\n"
    )


@pytest.mark.parametrize("prefix", ["/nonexistent", "relative/x", "/etc"])
def test_conda_prefix_that_leads_to_no_conda_is_named(envsync: Envsync, prefix: str) -> None:
    assert envsync("push", "myenv", "server2", CONDA_PREFIX=prefix).err == (
        f"envsync: no conda was found here: CONDA_PREFIX is {prefix!r}, which leads to no base"
        " directory\n"
        "  → activate conda (`conda activate`), or write an inventory with `prefix:`\n"
    )


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> type[Exception]:
    """`config path` ends with whatever this class is set to raise."""

    class Failing(Exception):
        error: BaseException = RuntimeError("the \x1b[31mreason")

    def fail(*_: object) -> None:
        raise Failing.error

    monkeypatch.setattr("envsync.cli.commands.config.find", fail)
    return Failing


def test_a_bug_is_saved_and_not_printed(
    envsync: Envsync, failing: type[Exception], tmp_path: Path
) -> None:
    ended = envsync("config", "path")
    (saved,) = (tmp_path / "home/.local/state/envsync").glob("crash-*.txt")
    assert (ended.status, ended.out) == (1, "")
    assert ended.err == (
        "envsync: this is a bug in envsync: RuntimeError: the \\x1b[31mreason\n"
        f"  → please report it, with the details in {saved}\n"
    )
    assert "Traceback" in saved.read_text()


def test_a_bug_is_printed_with_v(envsync: Envsync, failing: type[Exception]) -> None:
    assert "Traceback" in envsync("-v", "config", "path").err
    assert "Traceback" in envsync("config", "path", "-v").err


@pytest.mark.parametrize(
    ("error", "option", "is_certain"),
    [
        (MemoryError(), "-v", False),
        (RuntimeError("can't start new thread"), "-u", True),
        (OSError(errno.EMFILE, "Too many open files"), "-n", False),
        (OSError(errno.EFBIG, "File too large"), "-f", True),
    ],
)
def test_a_limit_of_this_machine_is_no_bug(
    envsync: Envsync, failing: Any, error: Exception, option: str, is_certain: bool, tmp_path: Path
) -> None:
    """Where one may be behind it all the same, the traceback is kept."""
    failing.error = error
    ended = envsync("config", "path")
    assert ended.status == 25
    assert f"reached (`ulimit {option}`)" in ended.err
    assert "\n  → raise that limit" in ended.err
    saved = [*(tmp_path / "home/.local/state/envsync").glob("crash-*.txt")]
    assert [str(path) for path in saved] == re.findall("where it was reached: (.*)", ended.err)
    assert len(saved) == (not is_certain)


def test_a_bug_in_json(envsync: Envsync, failing: type[Exception]) -> None:
    ended = envsync("config", "path", "--json")
    assert (ended.status, ended.err) == (1, "")
    assert check_document(ended.out)["error"]["code"] == "unexpected"


def test_a_bug_where_nothing_can_be_written(envsync: Envsync, failing: type[Exception]) -> None:
    ended = envsync("config", "path", XDG_STATE_HOME="/proc/nowhere")
    assert ended.status == 1
    assert "the details could not be saved" in ended.err


def test_interrupted_push_is_told_to_resume() -> None:
    stopped = Interruption(KeyboardInterrupt(), "push").line
    assert stopped == "stopped; run the same command again to resume"


@pytest.mark.parametrize(
    ("line", "then"),
    [
        (
            "rollback myenv server2",
            "; `envsync history myenv server2` shows whether it happened",
        ),
        (
            "remove myenv server2 server3",
            "; `envsync history myenv server2 server3` shows whether it happened",
        ),
        ("remove myenv server2 --dry-run", ""),
    ],
)
def test_interrupted_switch_names_the_command_that_shows_whether_it_happened(
    envsync: Envsync, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, line: str, then: str
) -> None:
    for name in ("envs", "pkgs"):
        (tmp_path / "conda" / name).mkdir(parents=True)

    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(asking, "ask_servers", interrupt)
    ended = envsync(*line.split(), CONDA_PREFIX=str(tmp_path / "conda"))
    assert (ended.status, ended.err) == (130, f"envsync: stopped{then}\n")
    config = tmp_path / "lab.yaml"
    config.write_text("servers: {server2: {}, server3: {}}\n")
    given = ("--config", str(config), *line.split(), "--json")
    error = json.loads(envsync(*given, CONDA_PREFIX=str(tmp_path / "conda")).out)["error"]
    hint = then.removeprefix("; ").replace("envsync ", f"envsync --config {config} ")
    assert (error["message"], error["hint"]) == ("stopped", hint)


def test_interrupted_command_exits_with_130(envsync: Envsync, failing: type[Exception]) -> None:
    failing.error = KeyboardInterrupt()  # type: ignore[attr-defined]
    ended = envsync("config", "path")
    assert (ended.status, ended.out) == (130, "")
    assert ended.err == "envsync: stopped\n", "there is nothing to resume"
    document = check_document(envsync("config", "path", "--json").out)
    assert document["error"]["code"] == "interrupted"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("nowhere", "there is no file nowhere"),
        ("/dev/null", "/dev/null is not a regular file"),
        ("nowhere.tar.gz", "there is no file nowhere.tar.gz"),
        (".", "is a directory, not an archive"),
        ("archive.zip", "archive.zip gives no name for the environment"),
        ("we ird.tar.gz", "we ird.tar.gz gives no name for the environment"),
        ("base.tar.gz", "base.tar.gz gives no name for the environment"),
    ],
)
def test_unpack_of_what_is_no_archive_is_refused(
    envsync: Envsync, tmp_path: Path, name: str, told: str
) -> None:
    for archive in ("archive.zip", "we ird.tar.gz", "base.tar.gz"):
        (tmp_path / archive).write_text("x")
    ended = envsync("unpack", name, "server2")
    assert told in ended.err


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_json_and_verbose(name: str) -> None:
    with program.make_context("envsync", ["--config", "x"], resilient_parsing=True) as context:
        command = program.get_command(context, name)
        commands = [command]
        if isinstance(command, LazyGroup):
            names = command.list_commands(context)
            commands = [command.get_command(context, each) for each in names]
    for each in commands:
        assert {"--json", "--verbose"} <= {opt for param in each.params for opt in param.opts}


def test_ctrl_c_twice_at_once_is_one_end() -> None:
    now, alarms = 100.0, list[float]()
    stopper = Stopper(lambda: now, alarms.append)
    with pytest.raises(KeyboardInterrupt):
        stopper(signal.SIGINT, None)
    now += 0.5
    stopper(signal.SIGINT, None)
    stopper(signal.SIGTERM, None)
    assert alarms == [1.5, 1.5], "then it counts, where that end is not over"
    now += 5.0
    with pytest.raises(Stopped) as stopped:
        stopper(signal.SIGTERM, None)
    assert stopped.value.number == signal.SIGTERM
