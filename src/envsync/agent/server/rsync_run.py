"""Runs this server's rsync once, and never leaves it behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from typing import IO, Callable, Deque, Iterable, Iterator, List, Mapping, Sequence

IO_TIMEOUT_SECONDS = 60
"""For rsync's own `--timeout`."""

_STALL_SECONDS = 3 * IO_TIMEOUT_SECONDS
"""Without a word for so long, rsync is ended; its own limit should have done it."""

_SAID_BYTES = 16 << 10
# Becomes the command behind it, which the kernel ends when the thread ends that started it:
# also where that was killed, or left at once after Ctrl-C.
_MORTAL = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9)  # PR_SET_PDEATHSIG, SIGKILL
if os.getppid() == int(sys.argv[1]):
    os.execvp(sys.argv[2], sys.argv[2:])
"""
# rsync reads these, and each would change what was decided for it.
_PREFIX_OF_SETTINGS = "RSYNC_"


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """What rsync runs with: messages that can be read, no settings of the user's."""
    kept = {
        name: value for name, value in environ.items() if not name.startswith(_PREFIX_OF_SETTINGS)
    }
    return {**kept, "LC_ALL": "C"}


class RsyncRun:
    """`on_output` gets what it writes to stdout, `said` is the last of what it wrote to stderr."""

    def __init__(self, argv: Sequence[bytes], on_output: Callable[[bytes], None]) -> None:
        """`argv` reads the paths of the files from stdin (`--from0 --files-from=-`)."""
        self._argv = argv
        self._on_output = on_output
        self._said: Deque[bytes] = deque()
        self._heard = time.monotonic()

    @property
    def said(self) -> str:
        return b"".join(self._said).decode("utf-8", "backslashreplace")

    def finish(self, paths: Iterable[bytes]) -> int:
        """Run it; its exit status, negative where a signal ended it."""
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
            exit_code = process.wait(_STALL_SECONDS)
            listener.join(_STALL_SECONDS)
        return exit_code

    @contextlib.contextmanager
    def _started(self, paths: IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
        process = subprocess.Popen(
            _mortal(self._argv),
            stdin=paths,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(os.environ),
            # No Ctrl-C and no terminal for it or its ssh: we end them.
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
            self._said.append(data)
            kept += len(data)
            while kept > _SAID_BYTES:
                kept -= len(self._said.popleft())
            data = os.read(pipe.fileno(), 4096)

    def _watch(self, process: subprocess.Popen[bytes]) -> None:
        while process.poll() is None:
            if time.monotonic() - self._heard > _STALL_SECONDS:
                _end(process)
            time.sleep(1)


def _mortal(argv: Sequence[bytes]) -> List[bytes]:
    """The command line of a process that does not outlive this thread."""
    words = [sys.executable, "-I", "-S", "-B", "-c", _MORTAL, str(os.getpid())]
    return [*map(os.fsencode, words), *argv]


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _path_list(paths: Iterable[bytes]) -> IO[bytes]:
    """An open file with the paths, a NUL behind each; it is gone when it is closed."""
    file = os.fdopen(os.memfd_create("envsync-paths"), "w+b")
    # rsync takes a line that begins with ; or # for a comment.
    file.writelines(b"./" + path + b"\0" for path in paths)
    file.seek(0)
    return file
