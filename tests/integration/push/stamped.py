"""A small environment of which 200 files change together, and who reads it all the time."""

from __future__ import annotations

import fcntl
import json
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.integration.push import readers
from tests.integration.push.places import environment, state
from tests.lab.lab import Lab, LabHost
from tests.support.processes import wait_until

if TYPE_CHECKING:
    from typing_extensions import Self

FILE_BYTES = 24_000
MOVED_FILES = 100


def stamp(version: int) -> str:
    return f"version-{version:08}"


def write_version(
    top: Path, version: int, names: list[str] | None = None, file_bytes: int = FILE_BYTES
) -> None:
    """Every stamped file anew, with the version at both ends and noise between."""
    noise = random.Random(version)
    mark = stamp(version).encode()
    for name in readers.NAMES if names is None else names:
        path = top / "stamps" / name
        path.unlink(missing_ok=True)
        path.write_bytes(mark + noise.randbytes(file_bytes - 32) + mark)


class Stamped:
    """`myenv` on the controller, version after version."""

    def __init__(self, controller: LabHost, file_bytes: int = FILE_BYTES) -> None:
        self.file_bytes = file_bytes
        self.top = environment(controller)
        self.version = 0
        (self.top / "conda-meta").mkdir(parents=True)
        (self.top / "conda-meta/history").write_text("==> 2026-01-01 00:00:00 <==\n")
        (self.top / "stamps").mkdir()
        (self.top / "moving-0").mkdir()
        for number in range(MOVED_FILES):
            (self.top / f"moving-0/{number}").write_text(f"{number}\n")
        self.change()

    @classmethod
    def in_lab(cls, lab: Lab, file_bytes: int = FILE_BYTES) -> Self:
        """With servers that could take it."""
        for host in lab.hosts.values():
            host.path(f"{host.prefix}/envs").mkdir()
            host.path(f"{host.prefix}/conda-meta").mkdir()
        return cls(lab.controller, file_bytes)

    def change(self) -> int:
        """All stamped files anew, and others under new names: bytes that the target has."""
        (self.top / f"moving-{self.version}").rename(self.top / f"moving-{self.version + 1}")
        self.version += 1
        write_version(self.top, self.version, file_bytes=self.file_bytes)
        return self.version

    @property
    def size_bytes(self) -> int:
        return self.file_bytes * len(readers.NAMES)


def version_at(host: LabHost) -> int | None:
    """The one version that stands on a host, None where none does; AssertionError on a mixture."""
    top = environment(host)
    if not top.exists():
        return None
    stamps: Counter[str] = Counter()
    for name in readers.NAMES:
        content = (top / "stamps" / name).read_bytes()
        stamps.update([content[:16].decode(), content[-16:].decode()])
    assert len(stamps) == 1, stamps
    return int(next(iter(stamps)).partition("-")[2])


class Reader:
    """The reader's process on a host; `stop` tells what it saw."""

    def __init__(self, host: LabHost) -> None:
        argv = [sys.executable, readers.__file__, f"{host.prefix}/envs/myenv"]
        self._process = host.popen(argv, stdin=subprocess.PIPE)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"watching\n"

    def stop(self) -> dict[str, Any]:
        out, err = self._process.communicate(b"\n", timeout=20)
        assert self._process.returncode == 0, err.decode()
        found: dict[str, Any] = json.loads(out)
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        found = self.stop()
        if kind is None:
            assert found["mixtures"] == []
            assert found["rounds"] > 1


def is_quiet(host: LabHost) -> bool:
    """Whether no push and no transfer holds its lock any more."""
    for name in ("lock", "writers"):
        try:
            with (state(host) / name).open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except FileNotFoundError:
            continue
    return True


def wait_quiet(host: LabHost) -> None:
    wait_until(lambda: is_quiet(host), f"no agent runs on {host.name}", timeout_seconds=20)
