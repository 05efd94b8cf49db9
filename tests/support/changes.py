"""Changes to a real tree that a second scan has to notice, by name."""

from __future__ import annotations

import os
from collections.abc import Callable

from tests.support import disk
from tests.support.trees import directory, file, symlink, with_parents

TREE = with_parents(
    {
        b"bin/tool": file(b"#!/bin/sh", 0o755),
        b"bin/link": symlink(b"tool"),
        b"lib/m.py": file(b"source"),
        b"lib/below/n.py": file(b"more source"),
        b"empty": directory(),
    }
)

TREE_BYTES = sum(len(node.data) for node in TREE.values() if node.kind == 1)

Change = Callable[[bytes], object]


def _hard_link_outside(top: bytes) -> None:
    os.link(top + b"/lib/m.py", top + b"-outside")


def _hard_link_inside(top: bytes) -> None:
    os.link(top + b"/lib/m.py", top + b"/bin/again")


def _file_away_and_back(top: bytes) -> None:
    os.rename(top + b"/lib/m.py", top + b"/m.py")
    os.rename(top + b"/m.py", top + b"/lib/m.py")


def directory_away_and_back(top: bytes) -> None:
    """Do what pip does with a package when it undoes an installation."""
    os.rename(top + b"/lib", top + b"/~ib")
    os.rename(top + b"/~ib", top + b"/lib")


def _other_target(top: bytes) -> None:
    os.unlink(top + b"/bin/link")
    os.symlink(b"fool", top + b"/bin/link")


def _file_replaced_by_its_equal(top: bytes) -> None:
    disk.write(top + b"/lib/x", b"source")
    disk.stamp(top + b"/lib/x", TREE[b"lib/m.py"])
    os.rename(top + b"/lib/x", top + b"/lib/m.py")


CHANGES: dict[str, Change] = {
    "a byte flipped, mtime put back": lambda top: disk.shift_content(top + b"/lib/m.py"),
    "chmod": lambda top: os.chmod(top + b"/lib/m.py", 0o600),
    "chmod of a directory": lambda top: os.chmod(top + b"/empty", 0o700),
    "mtime alone": lambda top: os.utime(top + b"/lib/m.py", ns=(5, 5)),
    "a file renamed": lambda top: os.rename(top + b"/lib/m.py", top + b"/lib/n.py"),
    "a directory renamed": lambda top: os.rename(top + b"/empty", top + b"/other"),
    "a file moved away and back": _file_away_and_back,
    "a directory moved away and back": directory_away_and_back,
    "a file added": lambda top: disk.write(top + b"/new", b""),
    "a file removed": lambda top: os.unlink(top + b"/lib/m.py"),
    "an empty directory removed": lambda top: os.rmdir(top + b"/empty"),
    "a hard link outside": _hard_link_outside,
    "a hard link inside": _hard_link_inside,
    "a link's target": _other_target,
    "a file replaced by its equal": _file_replaced_by_its_equal,
}
