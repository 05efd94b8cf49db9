"""Runs this machine's rsync once, and makes sure that it does not outlive the caller."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from typing import IO, Callable, Deque, Dict, Iterable, Iterator, List, Mapping, Sequence

IO_TIMEOUT_SECONDS = 60
"""The value for rsync's own `--timeout`."""

_STALL_SECONDS = 3 * IO_TIMEOUT_SECONDS
"""After this long without output, rsync is killed; its own timeout should have ended it before."""

_STDERR_BYTES = 16 << 10
# Becomes the command in its arguments, which the kernel kills when the thread that started it ends,
# even if that was killed, or exited at once after Ctrl-C.
_DIES_WITH_PARENT = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9)  # PR_SET_PDEATHSIG, SIGKILL
if os.getppid() == int(sys.argv[1]):
    os.execvp(sys.argv[2], sys.argv[2:])
"""
# rsync reads variables with this prefix, which would override the options chosen for it.
_PREFIX_OF_SETTINGS = "RSYNC_"


def environment(environ: Mapping[str, str]) -> Dict[str, str]:
    """Return rsync's environment: with untranslated messages, without the user's settings."""
    kept = {
        name: value for name, value in environ.items() if not name.startswith(_PREFIX_OF_SETTINGS)
    }
    return {**kept, "LC_ALL": "C"}


class RsyncRun:
    """One run of rsync: `on_output` gets its stdout, and `stderr` is the end of the other."""

    def __init__(self, argv: Sequence[bytes], on_output: Callable[[bytes], None]) -> None:
        """`argv` makes rsync read the paths from stdin (`--from0 --files-from=-`)."""
        self._argv = argv
        self._on_output = on_output
        self._stderr: Deque[bytes] = deque()
        self._heard = time.monotonic()

    @property
    def stderr(self) -> str:
        return b"".join(self._stderr).decode("utf-8", "backslashreplace")

    def finish(self, paths: Iterable[bytes]) -> int:
        """Run it for `paths`; return its exit status, negative if a signal ended it."""
        with _path_list(paths) as file, self._started(file) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            listener = threading.Thread(target=self._listen, args=[process.stderr], daemon=True)
            watchdog = threading.Thread(target=self._watch, args=[process], daemon=True)
            listener.start()
            watchdog.start()
            data = os.read(process.stdout.fileno(), 64 << 10)
            while data:
                self._heard = time.monotonic()
                self._on_output(data)
                data = os.read(process.stdout.fileno(), 64 << 10)
            exit_code = process.wait()  # not for ever, as the watchdog ends it
            listener.join(_STALL_SECONDS)
        return exit_code

    @contextlib.contextmanager
    def _started(self, paths: IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
        process = subprocess.Popen(
            _ending_with_this_thread(self._argv),
            stdin=paths,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(os.environ),
            # Keeps Ctrl-C and the terminal from rsync and its ssh; `_end` kills them.
            start_new_session=True,
        )
        try:
            with process:
                try:
                    yield process
                finally:
                    _end(process)
        finally:
            self._heard = float("inf")

    def _listen(self, pipe: IO[bytes]) -> None:
        kept = 0
        data = os.read(pipe.fileno(), 4096)
        while data:
            self._heard = time.monotonic()
            self._stderr.append(data)
            kept += len(data)
            while kept > _STDERR_BYTES:
                kept -= len(self._stderr.popleft())
            data = os.read(pipe.fileno(), 4096)

    def _watch(self, process: subprocess.Popen[bytes]) -> None:
        while process.poll() is None:
            if time.monotonic() - self._heard > _STALL_SECONDS:
                _end(process)
            time.sleep(1)


def _ending_with_this_thread(argv: Sequence[bytes]) -> List[bytes]:
    """Return the command line of a process that does not outlive this thread."""
    words = [sys.executable, "-I", "-S", "-B", "-c", _DIES_WITH_PARENT, str(os.getpid())]
    return [*map(os.fsencode, words), *argv]


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _path_list(paths: Iterable[bytes]) -> IO[bytes]:
    """Return an open file without a name, with the paths, each followed by NUL."""
    file = _unnamed_file()
    # "./" is needed because rsync takes lines that begin with ; or # as comments.
    file.writelines(b"./" + path + b"\0" for path in paths)
    file.seek(0)
    return file


def _unnamed_file() -> IO[bytes]:
    try:
        return os.fdopen(os.memfd_create("envsync-paths"), "w+b")
    except (AttributeError, OSError):  # an interpreter built against an old glibc, or an old kernel
        import tempfile  # loads much, and is rarely needed

        return tempfile.TemporaryFile()
