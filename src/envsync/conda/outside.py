"""Finds references in an environment that lead out of it, and so lead elsewhere on a target.

These are editable installs, lines of `.pth` files, `.egg-link` files, symlinks, and the
directories in which binaries look for libraries. On a target Python silently goes on without
them, or worse, with whatever is at that path; so does the loader, with a library of that name.
"""

from __future__ import annotations

import ast
import posixpath
import re
from typing import (
    Any,
    Collection,
    Dict,
    Iterable,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
)
from urllib.parse import unquote_to_bytes, urlsplit

from envsync.conda.base_prefix import base_of, is_condas, is_named_for_conda
from envsync.conda.metadata import SITE_PACKAGES, is_editable
from envsync.files.json_object import json_object

LEAD_FILE_MAX_BYTES = 1024 * 1024
"""Larger files were not written by pip, and are not read."""

PROJECT = "project"
"""The `LeadsOutside.kind` of what names the directory of an editable install."""
FINDER, PTH_LINE = "editable install", "line of a .pth file"
"""The kinds of what makes Python look for modules outside."""
RUN_PATH = "RPATH"
"""The `LeadsOutside.kind` of a binary's library directory."""

_IN_SITE_PACKAGES = re.compile(
    SITE_PACKAGES + rb"/(?:"
    rb"[^/]+\.pth|[^/]+\.egg-link|__editable__[^/]*\.py|[^/]+\.dist-info/direct_url\.json)"
)
_SITE_PACKAGES = re.compile(SITE_PACKAGES + rb"(?:/[^/]+\.dist-info)?\Z")
_QUOTED_PATH = re.compile(r"""(['"])(/[^'"\n]+)\1""")
_ORIGIN = re.compile(rb"\$(?:ORIGIN(?=/|\Z)|\{ORIGIN\})")
# Where the loader looks anyway on every server.
_SYSTEMS_OWN = re.compile(rb"/(?:usr/)?lib(?:32|64|x32)?(?:/[a-z0-9_]+-linux-[a-z0-9]+)?")
_MAPPING = re.compile(r"^(?:MAPPING|NAMESPACES)\b[^=\n]*=\s*(\{.*\})\s*$", re.MULTILINE)


class LeadsOutside(NamedTuple):
    """A relative path of the environment, what kind of reference it is, and where it leads."""

    path: bytes
    kind: str
    leads_to: bytes

    def __str__(self) -> str:
        path, leads_to = (p.decode("utf-8", "backslashreplace") for p in (self.path, self.leads_to))
        if self.kind != PROJECT:
            return f"{path} ({self.kind}) leads to {leads_to}"
        # NAME.egg-link, or NAME-VERSION.dist-info/direct_url.json
        link = posixpath.basename(path if path.endswith(".egg-link") else posixpath.dirname(path))
        name = posixpath.splitext(link)[0].replace("-", " ", 1)
        return f"{name} is an editable install of {leads_to}"


def is_worth_reading(path: bytes) -> bool:
    """Return whether `in_file` could find something in the file at this relative path."""
    return _IN_SITE_PACKAGES.fullmatch(path) is not None


def may_be_worth_reading(directory: bytes) -> bool:
    """Return whether a directory can hold a file that `is_worth_reading`."""
    return _SITE_PACKAGES.match(directory) is not None


def in_symlink(path: bytes, target: bytes, environment: bytes) -> Tuple[LeadsOutside, ...]:
    """Return where a symlink leads, if that is outside `environment`, an absolute path; else ().

    Judged by name alone: of a link through another link, the other one is reported.
    """
    return tuple(_outside(path, "symlink", [target], environment))


def in_file(path: bytes, content: bytes, environment: bytes) -> Tuple[LeadsOutside, ...]:
    """Return the outside paths that a file that `is_worth_reading` leads to, each path once."""
    if len(content) > LEAD_FILE_MAX_BYTES:
        return ()
    name = posixpath.basename(path)
    if name == b"direct_url.json":
        kind, targets = PROJECT, _direct_url(content)
    elif name.endswith(b".egg-link"):
        kind, targets = PROJECT, iter(content.splitlines()[:1])
    elif name.endswith(b".py"):
        kind, targets = FINDER, _finder(content)
    else:
        kind, targets = PTH_LINE, _pth(content)
    leads = _outside(path, kind, targets, environment)
    return tuple(dict.fromkeys(leads))


def by_project(leads: Iterable[LeadsOutside]) -> List[LeadsOutside]:
    """Return `leads`, of absolute paths, without what makes Python look in a project among them."""
    every, looking = list(map(_as_project, leads)), (FINDER, PTH_LINE)
    projects = {lead.leads_to for lead in every if lead.kind == PROJECT}
    return [
        lead
        for lead in every
        if lead.kind not in looking or not _is_below(posixpath.normpath(lead.leads_to), projects)
    ]


def _as_project(lead: LeadsOutside) -> LeadsOutside:
    """Return `lead`; if it is a project, then by its usual path."""
    if lead.kind != PROJECT:
        return lead
    return lead._replace(leads_to=posixpath.normpath(lead.leads_to))


class Names(NamedTuple):
    """An environment's absolute paths: all of those `here`, and the one on the target."""

    here: Sequence[bytes]
    there: bytes


def in_run_path(path: bytes, run_path: bytes, names: Names) -> Optional[LeadsOutside]:
    """Return where one directory of a binary's RPATH leads, if outside the environment; else None.

    `$ORIGIN` is resolved to the path on the target. An absolute path can be left over from the
    build, so the caller has to check that it exists here. If it is one of the system's or the
    prefix's directories it does not count, because every server has them.
    """
    # The values of $LIB and $PLATFORM depend on the machine.
    run_path = run_path.partition(b"/$LIB")[0].partition(b"/$PLATFORM")[0]
    origin = _ORIGIN.match(run_path)
    if origin:
        place = posixpath.join(names.there, posixpath.dirname(path))
        leads_to = posixpath.normpath(place + run_path[origin.end() :])
        is_inside = _is_below(leads_to, [names.there])
    else:
        leads_to = posixpath.normpath(run_path)
        is_inside = not leads_to.startswith(b"/") or _is_below(leads_to, names.here)
        is_inside = is_inside or _is_on_every_server(leads_to, names)
    return None if is_inside else LeadsOutside(path, RUN_PATH, leads_to)


def _is_on_every_server(directory: bytes, names: Names) -> bool:
    if _SYSTEMS_OWN.fullmatch(directory):
        return True
    known_as, *others = map(base_of, names.here)
    # A path below the prefix's known name is relocated to the target's prefix; a directory by
    # another name can be anything.
    here = [known_as, *filter(is_named_for_conda, others)]
    there = base_of(names.there)
    bases = [base for base in (*here, there) if base]
    if _is_below(directory, [posixpath.join(base, b"envs") for base in bases]):
        return False
    if there and _is_below(directory, [there]):
        return True
    return any(is_condas(base, directory) for base in here if base)


def _is_below(path: bytes, directories: Collection[bytes]) -> bool:
    return any(path == directory or path.startswith(directory + b"/") for directory in directories)


def _outside(
    path: bytes, kind: str, targets: Iterable[bytes], environment: bytes
) -> Iterator[LeadsOutside]:
    here = posixpath.join(environment, posixpath.dirname(path))
    for target in targets:
        absolute = posixpath.normpath(posixpath.join(here, target))
        if not _is_below(absolute, [environment]):
            yield LeadsOutside(path, kind, target)


def _pth(content: bytes) -> Iterator[bytes]:
    """Yield the paths that a `.pth` file adds, and those in the lines that it executes."""
    text = content[3:] if content.startswith(b"\xef\xbb\xbf") else content
    for line in text.splitlines():
        if line.startswith((b"import ", b"import\t")):
            for _, quoted in _QUOTED_PATH.findall(_decoded(line)):
                yield _encoded(quoted)
        elif line.strip() and not line.startswith(b"#"):
            yield line.rstrip()


def _direct_url(content: bytes) -> Iterator[bytes]:
    """Yield the project directory of an editable install from its `direct_url.json` (PEP 610)."""
    document = json_object(content)
    path = _path_of_url(document.get("url"))
    if is_editable(document) and path is not None:
        yield path


def _path_of_url(url: object) -> Optional[bytes]:
    if not isinstance(url, str):
        return None
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    return unquote_to_bytes(_encoded(parts.path)) if parts.scheme == "file" and parts.path else None


def _finder(content: bytes) -> Iterator[bytes]:
    """Yield the paths in the tables of the import hook that setuptools writes."""
    for table in _MAPPING.findall(_decoded(content)):
        try:
            mapping: Any = ast.literal_eval(table)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            continue
        if isinstance(mapping, dict):
            yield from _strings(mapping)


def _strings(mapping: Dict[Any, Any]) -> Iterator[bytes]:
    for value in mapping.values():
        for path in value if isinstance(value, list) else [value]:
            if isinstance(path, str):
                yield _encoded(path)


def _decoded(content: bytes) -> str:
    return content.decode("utf-8", "surrogateescape")


def _encoded(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a lone surrogate: no file has such a name, but report it
        return text.encode("utf-8", "backslashreplace")
