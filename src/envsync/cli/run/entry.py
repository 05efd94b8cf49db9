"""Where a run of the command begins and ends: the one place that catches.

Everything below raises; here an error becomes text on stderr or JSON on stdout, and an
exit status.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import click

from envsync.cli.invocation.invocation import Invocation
from envsync.cli.run.crash import save_traceback
from envsync.cli.run.program import COMMANDS, program
from envsync.errors import INTERRUPTED_EXIT_CODE, EnvsyncError, UsageError
from envsync.inventory.names import suggestion

_STDOUT = 1
PIPE_CLOSED_EXIT_CODE = 128 + signal.SIGPIPE


_SIGNALS = (signal.SIGTERM, signal.SIGHUP)
"""They stop a command as Ctrl-C does: `kill`, and a terminal that goes away."""
_SAME_END_SECONDS = 2.0
_RESUMABLE = ("push", "pull", "unpack", "bootstrap")
"""Commands that go on from what they had done; the others only begin again."""


class Stopped(KeyboardInterrupt):
    """One of `_SIGNALS` came."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def _alarm(seconds: float) -> None:
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001))


class Stopper:
    """The handler of what stops a command.

    Who presses Ctrl-C twice means one end: the second must not hit what the first set going,
    as taking away the lines that move. Where that takes longer than such an end takes, or the
    first one was lost, the second counts: it is kept until then, and needs no third.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        alarm: Callable[[float], None] = _alarm,
    ) -> None:
        """`alarm` has `again` called after so many seconds."""
        self._clock = clock
        self._alarm = alarm
        self._last_seconds: float | None = None
        self._kept = 0

    def again(self, *_: object) -> None:
        """Send what was kept once more, to whoever handles it by now."""
        os.kill(os.getpid(), self._kept)

    def __call__(self, number: int, _: FrameType | None) -> None:
        now = self._clock()
        if self._last_seconds is not None and now - self._last_seconds < _SAME_END_SECONDS:
            self._kept = number
            self._alarm(self._last_seconds + _SAME_END_SECONDS - now)
            return
        self._last_seconds = now
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise Stopped(number)


class Interruption:
    """Ctrl-C and its like: an end that is nobody's failure, and so no class of errors.py."""

    def __init__(self, how: KeyboardInterrupt, command: str) -> None:
        self.message = "stopped"
        if command in _RESUMABLE:
            self.message = "stopped; everything is resumable: run the same command again"
        number = how.number if isinstance(how, Stopped) else 0
        self.exit_code = 128 + number if number else INTERRUPTED_EXIT_CODE

    def to_json(self) -> dict[str, Any]:
        like = EnvsyncError(self.message).to_json()
        return {**like, "code": "interrupted", "exit_code": self.exit_code}


def main() -> NoReturn:
    """What the console script does when all of it is there."""
    is_heard = _open_standard_streams()
    _require_utf8()
    # What is kept here of this user (caches, staging, tracebacks) is for this user alone.
    umask = os.umask(0o077)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # what libraries tell developers is no news to a user
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    # A thread's trouble is met again by whoever waits for it; its traceback is no news either.
    threading.excepthook = _save_thread_failure
    stopper = Stopper()
    signal.signal(signal.SIGALRM, stopper.again)
    try:
        for number in (signal.SIGINT, *_SIGNALS):
            # Under nohup, and in a shell's background, they are to be ignored.
            if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                signal.signal(number, stopper)
        status = run(sys.argv[1:], Invocation(os.environ, umask))
        if not is_heard:
            status = _tell_unheard(status)
    except KeyboardInterrupt as how:  # before the command, or while it was told how that ended
        status = Interruption(how, "").exit_code
    leave(status)


def _open_standard_streams() -> bool:
    """Have something behind descriptors 0 to 2, of which a caller may have closed some.

    Else the next file or socket gets such a number, and what is printed goes into it. Whether
    what goes to stdout comes to anybody.
    """
    is_heard = True
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
            is_heard = is_heard and fd != _STDOUT
    nothing = Path(os.devnull)
    sys.stdin = sys.stdin or nothing.open()
    sys.stdout = sys.stdout or nothing.open("w")
    sys.stderr = sys.stderr or nothing.open("w")
    return is_heard


def _tell_unheard(status: int) -> int:
    """The exit status where the answer went nowhere: what was to be done is done all the same."""
    sys.stderr.write("envsync: the output cannot be written: stdout is closed\n")
    return status or EnvsyncError.exit_code


def _require_utf8() -> None:
    """Begin again where the locale has text mean other bytes than on the servers.

    There it is UTF-8, and a name that is typed here has to be the same name there.
    """
    if sys.getfilesystemencoding() != "utf-8":
        argv = [sys.executable, "-X", "utf8", *sys.orig_argv[1:]]
        os.execve(sys.executable, argv, {**os.environ, "PYTHONUTF8": "1"})  # noqa: S606


def run(arguments: Sequence[str], invocation: Invocation) -> int:
    """Carry out one command line; the exit status. Prints everything, raises nothing."""
    if "--json" in arguments:
        invocation.json = True  # before parsing: a wrong option is an error in JSON, too
    try:
        return _conclude(invocation, _carry_out(arguments, invocation))
    except BrokenPipeError:
        # Whoever read our output has gone (`envsync list | head`): nobody is left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED_EXIT_CODE
    except OSError as error:
        # The disk that stdout is redirected to is full, or the terminal went away.
        with contextlib.suppress(OSError):
            sys.stderr.write(f"envsync: the output cannot be written: {error.strerror}\n")
        return EnvsyncError.exit_code


def leave(status: int) -> NoReturn:
    """End the process at once: after Ctrl-C, threads may wait for servers that are silent."""
    for number in (signal.SIGINT, *_SIGNALS):
        if isinstance(signal.getsignal(number), Stopper):
            signal.signal(number, signal.SIG_DFL)  # there is nothing left to be stopped
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    for number in _SIGNALS:
        if status == 128 + number:
            # As it would have ended without us: systemd takes no other end for a clean one.
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
    os._exit(status)


def _save_thread_failure(failed: threading.ExceptHookArgs) -> None:
    if failed.exc_value is not None:
        save_traceback(failed.exc_value, os.environ)


def _carry_out(
    arguments: Sequence[str], invocation: Invocation
) -> EnvsyncError | Interruption | None:
    """Parse and run the command; how it ended; None where all went well."""
    try:
        if not sys.platform.startswith("linux"):
            return UsageError("envsync runs on Linux", hint="run it on one of the servers")
        _invoke(arguments, invocation)
    except EnvsyncError as error:
        return error
    except click.ClickException as error:
        path = _command_path(error, arguments)
        # An option that is wrong may have come before the one that tells which command it is.
        invocation.command = invocation.command or path.partition(" ")[2]
        return _usage_error(error, path)
    except KeyboardInterrupt as how:
        return Interruption(how, invocation.command)
    except BrokenPipeError:
        raise
    except OSError as error:
        if _is_about_output(error):
            raise
        return _bug(error, invocation)
    except Exception as error:  # noqa: BLE001 - the last resort of the whole program
        return _bug(error, invocation)
    return None


def _is_about_output(error: OSError) -> bool:
    """Whether it comes from writing to a stream: every other says about which file it is."""
    return error.filename is None and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO)


def _invoke(arguments: Sequence[str], invocation: Invocation) -> None:
    # Not `program.main`, which prints and exits by itself.
    with (
        contextlib.suppress(click.exceptions.Exit),
        program.make_context("envsync", list(arguments), obj=invocation) as context,
    ):
        program.invoke(context)


def _usage_error(error: click.ClickException, path: str) -> UsageError:
    message = _usage_message(error).rstrip(".")
    return UsageError(message[:1].lower() + message[1:], hint=f"{path} --help")


def _command_path(error: click.ClickException, arguments: Sequence[str]) -> str:
    """The command that a usage error is about: `envsync rollback`."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    if context is not None:
        return context.command_path
    # click does not say in which command an option has no value
    return " ".join(["envsync", *[word for word in arguments if word in COMMANDS][:1]])


def _usage_message(error: click.ClickException) -> str:
    """click's words, but for two of which it makes a sentence that is none."""
    if isinstance(error, click.NoSuchOption):
        near = suggestion(error.option_name, error.possibilities or ())
        return f"no such option {error.option_name!r}{near}"
    if isinstance(error, click.MissingParameter) and isinstance(error.param, click.Argument):
        return f"missing argument {(error.param.metavar or error.param.name or '').strip('[].')!r}"
    return error.format_message()


def _bug(error: Exception, invocation: Invocation) -> EnvsyncError:
    told = f"this is a bug in envsync: {type(error).__name__}: {error}"
    saved = save_traceback(error, invocation.environ)
    hint = "no place was found to save the details: run it again with -v"
    if saved is not None:
        hint = f"please report it, with the details in {saved}"
    if invocation.verbose:
        import traceback

        traceback.print_exception(error)
    return EnvsyncError(told, hint=hint)


def _conclude(invocation: Invocation, error: EnvsyncError | Interruption | None) -> int:
    """Tell how it ended."""
    status = 0 if error is None else error.exit_code
    if invocation.json:
        if invocation.command or error is not None:  # --help and --version print their own
            invocation.print_document(status, None if error is None else error.to_json())
    elif isinstance(error, Interruption):
        invocation.terminal.note(error.message)
    elif error is not None:
        invocation.terminal.error(error)
    sys.stdout.flush()
    return status
