"""Files that people leave in an environment and that no conda package can contain."""

from __future__ import annotations

import os
from pathlib import Path

# Long enough to be near PATH_MAX (4096) below any prefix and staging directory.
DEEP_PATH_BYTES = 3700
TOP = "var/lab"


def add_user_files(environment: Path, prefix: Path) -> None:
    """Add names that are not UTF-8, an empty directory, open modes, absolute links, a deep path."""
    top = environment / TOP
    (top / "empty").mkdir(parents=True)
    (top / os.fsdecode(b"not-utf-8-\xe9")).write_text("not UTF-8\n")
    (top / ("y" * 255)).write_text("the longest name\n")
    for name, mode in {"world-writable": 0o666, "setgid": 0o2755, "private": 0o600}.items():
        (top / name).write_text(f"{name}\n")
        (top / name).chmod(mode)
    (top / "open-directory").mkdir()
    (top / "open-directory").chmod(0o777)
    (top / "absolute-into-the-environment").symlink_to(environment / "bin")
    (top / "absolute-to-nothing").symlink_to("/nonexistent/lab")
    (top / "prefix.txt").write_text(f"{prefix}\n")
    _make_deep(top)


def _make_deep(top: Path) -> None:
    """Make a deep path step by step, because as a whole it can be too long for a system call."""
    descriptor = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    left = DEEP_PATH_BYTES - len(TOP)
    while left > 300:
        name = "d" * 199
        os.mkdir(name, dir_fd=descriptor)
        below = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor, left = below, left - 200
    leaf = os.open("leaf.txt", os.O_WRONLY | os.O_CREAT, 0o644, dir_fd=descriptor)
    os.write(leaf, b"deep\n")
    os.close(leaf)
    os.close(descriptor)
