"""The beginning and end of a run of the command, and the one place that catches exceptions.

Everything below raises; here an error becomes text on stderr or JSON on stdout, and an exit status.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import click

from envsync.cli.invocation.invocation import Invocation
from envsync.cli.invocation.stop_signals import STOP_SIGNALS, Stopped, Stopper
from envsync.cli.run.crash import save_traceback
from envsync.cli.run.output_stream import OutputFailed, OutputStream
from envsync.cli.run.program import COMMANDS, program
from envsync.errors import INTERRUPTED_EXIT_CODE, EnvsyncError, StorageFailed, UsageError
from envsync.inventory.names import suggestion

_STDOUT = 1
PIPE_CLOSED_EXIT_CODE = 128 + signal.SIGPIPE
HANGUP_EXIT_CODE = 128 + signal.SIGHUP

_COMPLETE = "_ENVSYNC_COMPLETE"
"""The variable by which click's shell functions ask: `bash_source`, `bash_complete`, and so on."""

_RESUMABLE = ("push", "pull", "unpack", "bootstrap")
"""Commands that resume where they stopped; the others start again."""


class Interruption:
    """Ctrl-C and similar: an end that is not a failure, and therefore no class of errors.py."""

    def __init__(
        self, how: KeyboardInterrupt, command: str, shown_by: str = "", done_so_far: str = ""
    ) -> None:
        self._done_so_far = done_so_far
        self._hint = "run the same command again to resume" if command in _RESUMABLE else ""
        if shown_by:
            self._hint = f"`{shown_by}` shows whether it happened"
        number = how.number if isinstance(how, Stopped) else 0
        self.exit_code = 128 + number if number else INTERRUPTED_EXIT_CODE

    @property
    def line(self) -> str:
        """What a person is told."""
        stopped = ": ".join(filter(None, ("stopped", self._done_so_far)))
        return "; ".join(filter(None, (stopped, self._hint)))

    def to_json(self) -> dict[str, Any]:
        like = EnvsyncError("stopped", hint=self._hint).to_json()
        return {**like, "code": "interrupted", "exit_code": self.exit_code}


def main() -> NoReturn:
    """Run the command for the console script, once everything is imported."""
    is_heard = _open_standard_streams()
    _require_utf8()
    # The files that envsync keeps (caches, staging, tracebacks) are for this user alone.
    umask = os.umask(0o077)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # library warnings are for developers, not for users
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout = OutputStream(sys.stdout)
    if isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr = OutputStream(sys.stderr)
    # A thread's error is raised again in the thread that waits for it, so print no traceback here.
    threading.excepthook = _save_thread_failure
    stopper = Stopper()
    signal.signal(signal.SIGALRM, stopper.again)
    try:
        for number in (signal.SIGINT, *STOP_SIGNALS):
            # Under nohup, and in the background of a shell, they are ignored and have to stay so.
            if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                signal.signal(number, stopper)
        invocation = Invocation(os.environ, umask)
        instruction = os.environ.get(_COMPLETE)
        if instruction:
            leave(_complete(instruction, invocation))
        status = run(sys.argv[1:], invocation)
        if not is_heard:
            status = _tell_unheard(status)
    except KeyboardInterrupt as how:  # before the command, or while its end was reported
        status = Interruption(how, "").exit_code
    leave(status)


def _complete(instruction: str, invocation: Invocation) -> int:
    """Answer the shell at TAB, or print the function with which it asks; return the status."""
    from click.shell_completion import shell_complete

    try:
        return shell_complete(program, {"obj": invocation}, "envsync", _COMPLETE, instruction)
    except Exception:  # noqa: BLE001 - in the middle of a command line, nobody wants a message
        return 1


def _open_standard_streams() -> bool:
    """Open file descriptors 0 to 2 where the caller closed them; return whether stdout was open.

    Otherwise the next file or socket would get such a number, and output would be written to it.
    """
    is_heard = True
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
            is_heard = is_heard and fd != _STDOUT
    nothing = Path(os.devnull)
    sys.stdin = sys.stdin or nothing.open()
    sys.stdout = sys.stdout or nothing.open("w")
    sys.stderr = sys.stderr or nothing.open("w")
    return is_heard


def _tell_unheard(status: int) -> int:
    """Report that the output was lost because stdout is closed; return the exit status."""
    sys.stderr.write("envsync: the output cannot be written: stdout is closed\n")
    return status or StorageFailed.exit_code


def _require_utf8() -> None:
    """Start again in UTF-8 mode if the locale has another encoding.

    Servers are sent UTF-8, and a name typed here has to be the same name there.
    """
    if sys.getfilesystemencoding() != "utf-8":
        argv = [sys.executable, "-X", "utf8", *sys.orig_argv[1:]]
        os.execve(sys.executable, argv, {**os.environ, "PYTHONUTF8": "1"})  # noqa: S606


def run(arguments: Sequence[str], invocation: Invocation) -> int:
    """Carry out one command line, report how it ended, and return the exit status.

    Raises nothing but `KeyboardInterrupt`, if the report itself is interrupted.
    """
    if "--json" in arguments:
        invocation.json = True  # before parsing, so that a wrong option is reported in JSON, too
    try:
        return _conclude(invocation, _carry_out(arguments, invocation))
    except OutputFailed as error:
        if error.errno == errno.EPIPE:
            # The reader has gone (`envsync list | head`), and needs no message.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return PIPE_CLOSED_EXIT_CODE
        if error.is_hangup and isinstance(signal.getsignal(signal.SIGHUP), Stopper):
            return HANGUP_EXIT_CODE  # the signal comes as well, or has come, and there is no reader
        with contextlib.suppress(OSError):
            sys.stderr.write(f"envsync: the output cannot be written: {error.strerror}\n")
        return StorageFailed.exit_code


def leave(status: int) -> NoReturn:
    """End the process without waiting for its threads, which may wait for silent servers."""
    for number in (signal.SIGINT, *STOP_SIGNALS):
        if isinstance(signal.getsignal(number), Stopper):
            signal.signal(number, signal.SIG_DFL)  # there is nothing left to stop
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    for number in STOP_SIGNALS:
        if status == 128 + number:
            # End by the signal, as without a handler: systemd counts no other end as clean.
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
    os._exit(status)


def _save_thread_failure(failed: threading.ExceptHookArgs) -> None:
    if failed.exc_value is not None:
        save_traceback(failed.exc_value, os.environ)


def _carry_out(
    arguments: Sequence[str], invocation: Invocation
) -> EnvsyncError | Interruption | None:
    """Parse and run the command; return how it ended, None if it succeeded."""
    try:
        if not sys.platform.startswith("linux"):
            return UsageError("envsync runs on Linux", hint="run it on one of the servers")
        _invoke(arguments, invocation)
    except EnvsyncError as error:
        return error
    except click.ClickException as error:
        path = _command_path(error, arguments)
        # A wrong option may have come before the option that records the command.
        invocation.command = invocation.command or path.partition(" ")[2]
        return _usage_error(error, path)
    except KeyboardInterrupt as how:
        return Interruption(how, invocation.command, invocation.shown_by, invocation.done_so_far)
    except OutputFailed:
        raise
    except Exception as error:  # noqa: BLE001 - the last resort of the whole program
        from envsync.agent.server.disk_failures import failure_here
        from envsync.agent.server.limits import reached_limit

        failure, limit = failure_here(error), reached_limit(error)
        if failure is None:
            return _bug(error, invocation)
        if limit is not None and not limit.is_certain:
            saved = _keep_traceback(error, invocation)
            failure.details = () if saved is None else (f"where it was reached: {saved}",)
        return failure
    return None


def _invoke(arguments: Sequence[str], invocation: Invocation) -> None:
    # `program.main` would print and exit by itself.
    with (
        contextlib.suppress(click.exceptions.Exit),
        program.make_context("envsync", list(arguments), obj=invocation) as context,
    ):
        program.invoke(context)


def _usage_error(error: click.ClickException, path: str) -> UsageError:
    message = _usage_message(error).rstrip(".")
    return UsageError(message[:1].lower() + message[1:], hint=f"{path} --help")


def _command_path(error: click.ClickException, arguments: Sequence[str]) -> str:
    """Return the command that a usage error is about, such as `envsync rollback`."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    if context is not None:
        return context.command_path
    # For an option without a value, click does not say which command it belongs to.
    return " ".join(["envsync", *[word for word in arguments if word in COMMANDS][:1]])


def _usage_message(error: click.ClickException) -> str:
    """Return click's message, reworded where it is not a sentence."""
    if isinstance(error, click.NoSuchOption):
        near = suggestion(error.option_name, error.possibilities or ())
        return f"no such option {error.option_name!r}{near}"
    if isinstance(error, click.MissingParameter) and isinstance(error.param, click.Argument):
        return f"missing argument {(error.param.metavar or error.param.name or '').strip('[].')!r}"
    return error.format_message()


def _bug(error: Exception, invocation: Invocation) -> EnvsyncError:
    message = f"this is a bug in envsync: {type(error).__name__}: {error}"
    saved = _keep_traceback(error, invocation)
    hint = "the details could not be saved: run it again with -v"
    if saved is not None:
        hint = f"please report it, with the details in {saved}"
    return EnvsyncError(message, hint=hint)


def _keep_traceback(error: Exception, invocation: Invocation) -> Path | None:
    """Save a traceback, and return its file if it could be saved; with -v, print it as well."""
    if invocation.verbose:
        traceback.print_exception(error)
    return save_traceback(error, invocation.environ)


def _conclude(invocation: Invocation, error: EnvsyncError | Interruption | None) -> int:
    """Report how the run ended, and return the exit status."""
    status = 0 if error is None else error.exit_code
    if invocation.json:
        if invocation.command or error is not None:  # --help and --version print their own output
            invocation.print_document(status, None if error is None else error.to_json())
    elif isinstance(error, Interruption):
        invocation.terminal.note(invocation.terminal.copyable(error.line))
    elif error is not None:
        invocation.terminal.error(error)
    sys.stdout.flush()
    return status
