"""The Python interpreters of this machine, for what has to run on servers."""

from __future__ import annotations

import functools
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

OLDEST = (3, 8)
NEWEST = (3, 13)

_REPORT = "import sys; print('%d.%d.%d' % sys.version_info[:3], sys.executable)"


@functools.cache
def interpreters() -> dict[str, Path]:
    """One interpreter for each minor version from OLDEST on, by its full version."""
    found: dict[tuple[int, int], tuple[str, Path]] = {}
    for candidate in _candidates():
        answer = subprocess.run(
            [candidate, "-I", "-S", "-c", _REPORT], capture_output=True, text=True, check=False
        )
        # Also not zero: pyenv's shims of versions that are not switched on.
        if answer.returncode == 0:
            version, executable = answer.stdout.rstrip("\n").split(" ", 1)
            major, minor = version.split(".")[:2]
            found.setdefault((int(major), int(minor)), (version, Path(executable)))
    return dict(found[minor] for minor in sorted(found) if minor >= OLDEST)


def _candidates() -> Iterator[Path]:
    names = ["python3", *(f"python3.{minor}" for minor in range(OLDEST[1], 30))]
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    directories = [Path(entry) for entry in os.environ.get("PATH", os.defpath).split(os.pathsep)]
    directories += sorted(pyenv.glob("versions/3.*/bin"))
    for directory in directories:
        if directory.name == "shims":
            continue
        for name in names:
            if os.access(directory / name, os.X_OK):
                yield directory / name
