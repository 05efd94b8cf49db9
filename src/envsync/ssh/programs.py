"""Asks a program for what it alone knows: `ssh`, `ssh-keygen` or `klist`."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence

_ANSWER_SECONDS = 15.0


def ask_program(
    argv: Sequence[str], environ: Mapping[str, str] | None = None, given: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    """Return the answer of a program that is `given` this as stdin, whatever its exit status.

    Raises `OSError` if it cannot be started, and a `TimeoutError` if it does not end.
    """
    try:
        return subprocess.run(
            argv,
            env=environ,
            input=given,
            capture_output=True,
            check=False,
            timeout=_ANSWER_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise TimeoutError(f"no answer for {_ANSWER_SECONDS:g} seconds") from error
