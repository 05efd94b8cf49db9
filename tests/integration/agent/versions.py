"""Versions of one environment."""

from __future__ import annotations

from collections.abc import Callable

from envsync.tree.revision import revision_of
from tests.support import disk
from tests.support.pushes import Server, environment
from tests.support.trees import Tree, file, manifest_of, symlink

ONE = environment({b"bin/tool": file(b"one", 0o755), b"lib/shared": file(b"the same")})
TWO = environment({b"bin/tool": file(b"two", 0o755), b"lib/shared": file(b"the same")})
THREE = environment({b"bin/tool": file(b"three", 0o755), b"etc/x": symlink(b"../bin")})
STEPS = ["intent", "sync", "switch", "switched", "check", "record", "recorded"]


def revision(nodes: Tree) -> str:
    return revision_of(manifest_of(nodes))


def shift(server: Server) -> None:
    disk.shift_content(server.live + b"/lib/shared")


def kill_at(step: str, die: Callable[[], None]) -> Callable[[str], None]:
    return lambda reached: die() if reached == step else None
