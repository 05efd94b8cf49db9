"""Carries out a plan's steps on a staging tree: those before the contents arrive, and after."""

from __future__ import annotations

import contextlib
import os
import stat
from typing import Dict, Iterator, Set

from envsync.agent.staging.blocks import LARGE_BYTES
from envsync.agent.staging.writing import TreeWriter
from envsync.tree.entry import DIRECTORY, FILE, join, split
from envsync.tree.manifest import Manifest
from envsync.tree.steps import Make, Plan


def before_contents(writer: TreeWriter, work: Plan) -> None:
    """Remove what the plan removes; make directories and symbolic links."""
    for path, entry in _gone_first(work):
        remove = writer.remove_directory if entry.kind == DIRECTORY else writer.remove_file
        remove(path)
    for path, _ in work.directories:
        writer.make_directory(path)
    for path, entry in work.symlinks:
        writer.make_symlink(path, entry)


def _gone_first(work: Plan) -> Iterator[Make]:
    """Yield what to remove beforehand: all but files whose blocks a new large one may reuse."""
    if not work.remove:
        return
    made_anew = {path for path, entry in work.fetches if entry.size_bytes >= LARGE_BYTES}
    for make in work.remove:
        if make.entry.kind != FILE or make.path not in made_anew:
            yield make


def after_contents(writer: TreeWriter, work: Plan) -> None:
    """Copy repeated contents within the tree, make hard links, restamp kept files and symlinks."""
    for path, entry, _, source in work.repeats:
        writer.copy_file(writer.top_fd, source, path, entry)
    for link in work.links:
        # If the leader did not arrive, verification reports it.
        with contextlib.suppress(FileNotFoundError):
            writer.make_link(link.path, link.leader)
    for path, entry in work.restamp:
        if entry.kind != DIRECTORY:
            writer.stamp(path, entry)


def stamp_directories(
    writer: TreeWriter, work: Plan, touched: Set[bytes], wanted: Manifest
) -> None:
    """Set the modes and mtimes of directories that were changed; this has to be the last step.

    Children come first. Untouched directories still have the right ones, as the content cache
    knows.
    """
    planned = dict(work.directories)
    by_parent: Dict[bytes, Set[bytes]] = {}
    for path in touched - planned.keys() - {b""}:
        parent, name = split(path)
        by_parent.setdefault(parent, set()).add(name)
    for parent, names in by_parent.items():
        for entry in wanted.entries(parent):
            if entry.name in names:
                planned[join(parent, entry.name)] = entry
    for path in sorted(planned, key=lambda path: path.count(b"/"), reverse=True):
        writer.stamp(path, planned[path])
    # A directory can be moved to another parent only if its owner may write to it.
    os.chmod(b".", wanted.mode | stat.S_IWUSR, dir_fd=writer.top_fd)
    os.utime(writer.top_fd, ns=(wanted.mtime_ns, wanted.mtime_ns))
