"""Where things are on a host, as the test process sees them."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from tests.lab.lab import LabHost


def environment(host: LabHost) -> Path:
    """The directory of `myenv`."""
    return host.path(f"{host.prefix}/envs/myenv")


def state(host: LabHost) -> Path:
    """What envsync keeps of `myenv` on a target."""
    return host.path(f"{host.prefix}/envs/.envsync/myenv")


def trees(host: LabHost) -> list[Path]:
    """Staging and earlier versions."""
    return sorted((state(host) / "trees").iterdir())


def site_packages(host: LabHost) -> Path:
    return next(environment(host).glob("lib/python3.*/site-packages"))


def rewrite(path: Path, content: bytes) -> None:
    """Replace a file as installers do: a new inode."""
    path.unlink(missing_ok=True)
    path.write_bytes(content)


def add_softlink(host: LabHost) -> Path:
    """The link that conda makes of a package's one file where it is told `always_softlink`."""
    package = f"{host.prefix}/pkgs/linked-1-0"
    host.path(f"{package}/info").mkdir(parents=True)
    host.path(f"{package}/info/index.json").write_text("{}")
    host.path(f"{package}/linked").write_text("linked\n" * 10)
    link = environment(host) / "linked"
    link.symlink_to(f"{package}/linked")
    return link


def staged_bytes(host: LabHost) -> int:
    """How much stands in the staging trees and what transfers put beside them."""
    total = 0
    for directory, _, names in os.walk(state(host)):  # which passes over what is moved meanwhile
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += Path(directory, name).lstat().st_size
    return total
