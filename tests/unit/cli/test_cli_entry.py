"""How a run ends: errors in words and in JSON, bugs, interruptions."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

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


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> type[Exception]:
    """`config path` ends with whatever this class is set to raise."""

    class Failing(Exception):
        error: BaseException = RuntimeError("the \x1b[31mreason")

    def fail(*_: object) -> None:
        raise Failing.error

    monkeypatch.setattr("envsync.inventory.find", fail)
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


def test_a_bug_in_json(envsync: Envsync, failing: type[Exception]) -> None:
    ended = envsync("config", "path", "--json")
    assert (ended.status, ended.err) == (1, "")
    assert check_document(ended.out)["error"]["code"] == "unexpected"


def test_a_bug_where_nothing_can_be_written(envsync: Envsync, failing: type[Exception]) -> None:
    ended = envsync("config", "path", XDG_STATE_HOME="/proc/nowhere")
    assert ended.status == 1
    assert "the details could not be saved" in ended.err


@pytest.mark.parametrize(
    ("command", "then"),
    [
        ("push", "run the same command again to resume"),
        ("rollback", "`envsync history` shows whether it happened"),
        ("remove", "`envsync history` shows whether it happened"),
    ],
)
def test_interruption_says_what_to_do_next(command: str, then: str) -> None:
    assert Interruption(KeyboardInterrupt(), command).message == f"stopped; {then}"


def test_interrupted_command_exits_with_130(envsync: Envsync, failing: type[Exception]) -> None:
    failing.error = KeyboardInterrupt()  # type: ignore[attr-defined]
    ended = envsync("config", "path")
    assert (ended.status, ended.out) == (130, "")
    assert ended.err == "envsync: stopped\n", "there is nothing to resume"
    document = check_document(envsync("config", "path", "--json").out)
    assert document["error"]["code"] == "interrupted"


EARLY = """\
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # the tests may run in a background

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == sys.argv[1]:
            print("importing", flush=True)
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupting())
from envsync.cli import main
sys.argv[1:] = [*sys.argv[1:2], "--version"]
main()
"""


@pytest.mark.parametrize("module", ["envsync.cli.run.entry", "click", "envsync.inventory.names"])
def test_ctrl_c_before_all_is_imported_is_an_end_without_a_traceback(module: str) -> None:
    argv = [sys.executable, "-c", EARLY, module]
    done = subprocess.run(argv, capture_output=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, b"importing\n", b"")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signal_stops_a_command_as_ctrl_c_does(number: signal.Signals, tmp_path: Path) -> None:
    fifo = tmp_path / "inventory"
    os.mkfifo(fifo)
    # The tests may themselves run under nohup.
    start = f"import signal; signal.signal({number:d}, signal.SIG_DFL); "
    argv = [sys.executable, "-c", start + "from envsync.cli import main; main()"]
    argv += ["config", "check", "--json", "--config", str(fifo)]
    with (
        subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process,
        fifo.open("w") as file,  # once it has opened it, too
    ):
        process.send_signal(number)
        try:
            out, err = process.communicate(timeout=5)
        except subprocess.TimeoutExpired:
            # It came after Python had looked for one, and before the kernel was to wait for
            # what can be read: CPython sees it when there is something, or nothing more.
            file.close()
            out, err = process.communicate(timeout=60)
    document = check_document(out.decode())
    assert (process.returncode, err) == (-number, b"")
    assert (document["error"]["code"], document["exit_code"]) == ("interrupted", 128 + number)


def test_signal_that_was_ignored_stays_ignored(tmp_path: Path) -> None:
    """As under nohup."""
    fifo = tmp_path / "inventory"
    os.mkfifo(fifo)
    script = "trap '' HUP; exec \"$@\""
    argv = [sys.executable, "-c", "from envsync.cli import main; main()"]
    argv = ["sh", "-c", script, "sh", *argv, "config", "check", "--config", str(fifo)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        with fifo.open("w") as file:
            process.send_signal(signal.SIGHUP)
            file.write("servers: {server1: {}}\n")
        out, _ = process.communicate(timeout=20)
    assert (process.returncode, b"valid" in out) == (0, True)


def test_a_reader_that_goes_away_is_no_failure_to_tell() -> None:
    read, write = os.pipe()
    os.close(read)
    argv = [sys.executable, "-c", "from envsync.cli import main; main()", "--help"]
    done = subprocess.run(argv, stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


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


STUCK = """\
import time
from envsync.cli.invocation import stop_signals
from envsync.cli.run import entry

def stuck(arguments, invocation):
    try:
        print("begun", flush=True)
        time.sleep(600)
    except KeyboardInterrupt:
        print("ending", flush=True)
        time.sleep(600)

stop_signals._SAME_END_SECONDS = 0.3
entry._invoke = stuck
entry.main()
"""

TELLING = """\
import time
from envsync.cli.run import entry

def telling(invocation, error):
    print("begun", flush=True)
    time.sleep(600)

entry._invoke, entry._conclude = lambda *_: None, telling
entry.main()
"""


@pytest.mark.parametrize(
    ("second", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)]
)
def test_an_end_that_does_not_come_is_ended_by_the_second(
    second: signal.Signals, status: int
) -> None:
    """Although it came right behind the first: nobody has to send a third."""
    with subprocess.Popen([sys.executable, "-c", STUCK], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"begun\n"
            process.send_signal(signal.SIGINT)
            assert process.stdout.readline() == b"ending\n"
            process.send_signal(second)
            assert process.wait(60) == status
        finally:
            process.kill()


def test_interruption_while_the_end_is_told_leaves_no_traceback() -> None:
    argv = [sys.executable, "-c", TELLING]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"begun\n"
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, err) == (130, b"")


UMASK = """\
import os
from envsync.cli.run import entry

def tell(arguments, invocation):
    print(f"{invocation.umask:03o} {os.umask(0):03o}")

entry._invoke = tell
entry.main()
"""


@pytest.mark.parametrize("umask", ["002", "022", "077"])
def test_output_has_the_users_umask_and_envsyncs_own_files_are_private(umask: str) -> None:
    """What envsync keeps here is closed to others, whatever the umask."""
    command = ["sh", "-c", 'umask "$1"; exec "$2" -c "$3"', "sh", umask, sys.executable, UMASK]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout == f"{umask} 077\n"


@pytest.mark.parametrize("arguments", [["config", "path"], ["config", "path", "--json"]])
def test_a_closed_stdout_is_told(tmp_path: Path, arguments: list[str]) -> None:
    """Whoever reads an empty answer and a status of 0 takes it for one."""
    config = tmp_path / "envsync.yaml"
    config.write_text("servers: {}\n")
    program = str(Path(sys.executable).with_name("envsync"))
    ran = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", program, "--config", str(config), *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stdout) == (22, "")
    assert ran.stderr == "envsync: the output cannot be written: stdout is closed\n"


FAILING = """\
import os, sys
from envsync.cli.run import entry

def fail(arguments, invocation):
    raise OSError(int(sys.argv[1]), os.strerror(int(sys.argv[1])))

entry._invoke = fail
entry.main()
"""


@pytest.mark.parametrize(
    ("number", "status", "told"),
    [
        (errno.ENOSPC, 16, "envsync: a disk of this machine cannot be used: No space left on"),
        (errno.EIO, 22, "envsync: a disk of this machine cannot be used: Input/output error"),
        (errno.EPIPE, 1, "envsync: this is a bug in envsync: BrokenPipeError"),
    ],
)
def test_write_error_of_a_disk_is_not_taken_for_a_closed_output(
    number: int, status: int, told: str, tmp_path: Path
) -> None:
    environ = {**os.environ, "HOME": str(tmp_path)}
    argv = [sys.executable, "-c", FAILING, str(number)]
    ran = subprocess.run(argv, capture_output=True, text=True, check=False, env=environ)
    assert (ran.returncode, ran.stdout) == (status, "")
    assert ran.stderr.startswith(told)


def test_an_output_that_cannot_be_written_is_told() -> None:
    program = str(Path(sys.executable).with_name("envsync"))
    with Path("/dev/full").open("w") as full:
        ran = subprocess.run(
            [program, "--help"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert ran.returncode == 22
    assert ran.stderr == "envsync: the output cannot be written: No space left on device\n"
    reader, writer = os.pipe()
    os.close(reader)
    ran = subprocess.run(
        [program, "--help"], stdout=writer, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writer)
    assert (ran.returncode, ran.stderr) == (141, "")
