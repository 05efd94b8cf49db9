"""A key agent of a test's own."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def agent(socket: Path) -> Iterator[dict[str, str]]:
    """The variables by which its clients find it."""
    with subprocess.Popen(
        ["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.DEVNULL
    ) as process:
        while not socket.exists():
            assert process.poll() is None
        try:
            yield {"SSH_AUTH_SOCK": str(socket)}
        finally:
            process.terminate()


def ssh_add(variables: dict[str, str], key: Path) -> None:
    subprocess.run(
        ["ssh-add", "-q", str(key)],
        env={**os.environ, **variables}, check=True, capture_output=True,
    )  # fmt: skip
