"""Finds what leads out of a source's environment, or into it from outside."""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING, Callable, Dict, Iterator, List, Set, Tuple

from envsync.agent.source.elf_files import Question
from envsync.agent.trees.stat_rows import modes
from envsync.agent.wire.source_operations import OutsidePath
from envsync.conda import elf, kernelspecs, outside
from envsync.conda.outside import LeadsOutside
from envsync.files.directories import home
from envsync.tree.entry import FILE, SYMLINK, Entry, join

if TYPE_CHECKING:
    from envsync.agent.source.version import SourceVersion

Moved = Callable[[bytes], bytes]
"""Maps an absolute path to what it becomes on the target."""

_KERNELSPEC_BYTES_MAX = 1 << 20
_RUN_PATHS = Question(b"envsync run paths 1\n", "4a7b", lambda read: b":".join(elf.run_paths(read)))


def outside_paths(source: SourceVersion, target_path: str = "") -> Tuple[OutsidePath, ...]:
    """Return them as on a target; `target_path` is empty if the environment keeps its path."""
    moved = source.relocation(target_path).link_target if target_path else _stays
    standing = os.fsencode(target_path) or source.known_as
    leads = [lead._replace(leads_to=_there(lead, standing, moved)) for lead in _leads(source)]
    # Any of the environment's names here may have become its name there.
    leads = [lead for lead in leads if not (lead.leads_to + b"/").startswith(standing + b"/")]
    leads = outside.by_project(leads)
    leads += _run_paths(source, target_path, moved)
    return (*map(_outside_path, leads), *_kernelspecs(source))


def _outside_path(lead: LeadsOutside) -> OutsidePath:
    is_imported = lead.kind in (outside.PROJECT, outside.FINDER)
    if_missing = ": importing it fails" if is_imported else ""
    return OutsidePath(os.fsdecode(lead.leads_to), str(lead), if_missing)


def _there(lead: LeadsOutside, standing: bytes, moved: Moved) -> bytes:
    """Return the absolute path to which `lead` leads if the environment is at `standing`."""
    if os.path.isabs(lead.leads_to):
        return moved(lead.leads_to)
    place = os.path.join(standing, os.path.dirname(lead.path))
    return os.path.normpath(os.path.join(place, lead.leads_to))


def _stays(path: bytes) -> bytes:
    return path


def _leads(source: SourceVersion) -> Iterator[LeadsOutside]:
    manifest = source.manifest()
    # In the same order at each push, because the first few are what a person sees.
    for directory, rows in sorted(source.rows.items()):
        # Most directories have neither, and need not be decoded.
        has_symlinks = any(map(stat.S_ISLNK, modes(rows)))
        if has_symlinks or outside.may_be_worth_reading(directory):
            for entry in manifest.entries(directory):
                yield from _in_entry(source, join(directory, entry.name), entry)


def _in_entry(source: SourceVersion, path: bytes, entry: Entry) -> Tuple[LeadsOutside, ...]:
    # Paths inside an environment use the path by which conda knows it.
    if entry.kind == SYMLINK:
        return outside.in_symlink(path, entry.content, source.known_as)
    if entry.kind == FILE and outside.is_worth_reading(path):
        return outside.in_file(path, source.read(path) or b"", source.known_as)
    return ()


def _run_paths(source: SourceVersion, target_path: str, moved: Moved) -> Iterator[LeadsOutside]:
    """Yield the outside directories in which binaries look for libraries, each once."""
    names = outside.Names(source.names, os.fsencode(target_path) or source.known_as)
    unchanged = source.relocation_facts(target_path).left if target_path else ()
    paths_by_lead: Dict[bytes, Set[bytes]] = {}
    for path, run_paths in source.elf_files().ask(_RUN_PATHS):
        for run_path in run_paths.split(b":"):
            lead = outside.in_run_path(path, run_path, names)
            if lead is None:
                continue
            leads_to = lead.leads_to
            if os.path.isabs(run_path):
                # Usually a leftover of the build machine that does not exist here.
                if not os.path.isdir(leads_to):
                    continue
                if os.fsdecode(path) not in unchanged:
                    leads_to = moved(leads_to)
            paths_by_lead.setdefault(leads_to, set()).add(path)
    for leads_to, paths in sorted(paths_by_lead.items()):
        more = f", also of {len(paths) - 1} more" if len(paths) > 1 else ""
        yield LeadsOutside(min(paths), outside.RUN_PATH + more, leads_to)


def _kernelspecs(source: SourceVersion) -> Iterator[OutsidePath]:
    """Yield the kernelspecs outside the environment that lead into it; none is sent."""
    here = source.known_as
    base, envs = os.path.split(os.path.dirname(os.fsdecode(here)))
    places = kernelspecs.directories(os.environ, home(os.environ), base)
    if envs != "envs":
        places = places[:1]
    for place in places:
        for name in _names_in(place):
            path = os.path.join(place, name, "kernel.json")
            try:
                with open(path, "rb") as file:
                    content = file.read(_KERNELSPEC_BYTES_MAX)
            except OSError:
                continue
            if kernelspecs.starts(content, {here, source.stands_at}):
                yield OutsidePath(path, f"kernelspec {name} (not sent) is outside, at {path}")


def _names_in(directory: str) -> List[str]:
    """Return the sorted names; none if the directory cannot be read."""
    with contextlib.suppress(OSError):
        return sorted(os.listdir(directory))
    return []
