"""A key agent of a test's own."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def agent(path: Path) -> Iterator[dict[str, str]]:
    """The variables by which its clients find it."""
    with subprocess.Popen(
        ["ssh-agent", "-D", "-a", str(path)], stdout=subprocess.DEVNULL
    ) as process:
        while not listens(path):
            assert process.poll() is None
        try:
            yield {"SSH_AUTH_SOCK": str(path)}
        finally:
            process.terminate()


def listens(path: Path) -> bool:
    """It is there before anybody listens."""
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


def ssh_add(variables: dict[str, str], key: Path, *options: str) -> None:
    subprocess.run(
        ["ssh-add", "-q", *options, str(key)],
        env={**os.environ, **variables}, check=True, capture_output=True,
    )  # fmt: skip
