"""The command as a process: signals, outputs that cannot be written, completion, a watch."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from tests.support.documented_json import check_document

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


@pytest.mark.parametrize("is_ours", [True, False], ids=["signal", "no signal"])
def test_command_whose_terminal_is_closed_ends_by_that_signal(
    is_ours: bool, tmp_path: Path
) -> None:
    """There is nobody left to tell; that what it prints is lost is no failure of a disk."""
    fifo = tmp_path / "inventory"
    os.mkfifo(fifo)
    start = "import signal; signal.signal(signal.SIGHUP, signal.SIG_DFL); "
    if is_ours:
        start += "import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    argv = [sys.executable, "-c", start + "from envsync.cli import main; main()"]
    argv += ["config", "check", "--config", str(fifo)]
    mine, its = pty.openpty()
    with subprocess.Popen(
        argv, stdin=its, stdout=its, stderr=its, start_new_session=True
    ) as process:
        os.close(its)
        # It may have ended before it is told anything.
        with contextlib.suppress(BrokenPipeError), fifo.open("w") as file:
            os.close(mine)
            file.write("servers: {server1: {}}\n")
        assert process.wait(timeout=60) == -signal.SIGHUP


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


def asked(**variables: str) -> subprocess.CompletedProcess[str]:
    """Return what the command answers to a shell."""
    environ = {"PATH": os.environ["PATH"], **variables}
    program = str(Path(sys.executable).with_name("envsync"))
    return subprocess.run([program], env=environ, capture_output=True, text=True, check=False)


def test_the_shell_is_answered() -> None:
    assert "_ENVSYNC_COMPLETE=bash_complete" in asked(_ENVSYNC_COMPLETE="bash_source").stdout
    answer = asked(_ENVSYNC_COMPLETE="bash_complete", COMP_WORDS="envsync ro", COMP_CWORD="1")
    assert answer.stdout == "plain,rollback\n"


@pytest.mark.parametrize(
    "variables",
    [
        {"_ENVSYNC_COMPLETE": "nosuchshell_source"},
        {"_ENVSYNC_COMPLETE": "bash_complete"},
        {
            "_ENVSYNC_COMPLETE": "bash_complete",
            "COMP_WORDS": "envsync nosuchcommand ",
            "COMP_CWORD": "2",
        },
    ],
)
def test_a_line_that_makes_no_sense_is_answered_by_nothing(variables: dict[str, str]) -> None:
    answer = asked(**variables)
    assert (answer.returncode, answer.stdout, answer.stderr) == (1, "", "")


def watched(home: Path, *, columns: int, end_with: signal.Signals) -> tuple[int | None, bytes]:
    """The exit status of a watch on a terminal of that width, and what it showed."""
    mine, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("4H", 24, columns, 0, 0))
    environ = {"HOME": str(home), "TERM": "xterm", "PATH": os.environ["PATH"]}
    argv = [sys.executable, "-m", "envsync", "status", "--watch"]
    with subprocess.Popen(argv, stdout=its, stderr=its, env=environ) as process:
        os.close(its)
        try:
            seen = b""
            while b"\x1b[J" not in seen:  # the end of a drawing
                seen += os.read(mine, 4096)
            process.send_signal(end_with)
            while process.poll() is None:
                with contextlib.suppress(OSError):  # it has closed the terminal
                    os.read(mine, 4096)
        finally:
            process.kill()
    os.close(mine)
    return process.returncode, seen


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 0), (signal.SIGTERM, -15)])
def test_only_ctrl_c_is_the_normal_end_of_a_watch(
    number: signal.Signals, status: int, tmp_path: Path
) -> None:
    ended, _ = watched(tmp_path, columns=80, end_with=number)
    assert ended == status


def test_a_watch_fits_the_terminal(tmp_path: Path) -> None:
    _, seen = watched(tmp_path, columns=25, end_with=signal.SIGTERM)
    shown = b"no daemon runs here (start one"
    assert shown[:25] + b"\x1b" in seen
    _, seen = watched(tmp_path, columns=40, end_with=signal.SIGTERM)
    assert b"envsync\x1b[K\r\n  daemon)" in seen, "folded, not cut"
