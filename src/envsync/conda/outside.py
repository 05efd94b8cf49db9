"""Finds what in an environment leads out of it, and so leads elsewhere on another server.

Editable installs, lines of `.pth` files, `.egg-link` files, symlinks, and where binaries look
for their libraries. Python goes on silently without them, or worse, with whatever stands at
that path there; so does the loader, with another library of that name.
"""

from __future__ import annotations

import ast
import json
import posixpath
import re
from typing import Any, Collection, Dict, Iterable, Iterator, NamedTuple, Optional, Sequence, Tuple
from urllib.parse import unquote_to_bytes, urlsplit

from envsync.conda.base_prefix import base_of, is_condas, is_named_for_conda
from envsync.conda.site_packages import SITE_PACKAGES

FILE_MAX_BYTES = 1024 * 1024
"""Larger files are none of pip's and are not looked into."""

LEADS_TO = " leads to "
"""In the line about one, before the path that it leads to, which ends the line."""

RUN_PATH = "RPATH"
"""The kind of what leads a binary out."""

_IN_SITE_PACKAGES = re.compile(
    SITE_PACKAGES + rb"/(?:"
    rb"[^/]+\.pth|[^/]+\.egg-link|__editable__[^/]*\.py|[^/]+\.dist-info/direct_url\.json)"
)
_SITE_PACKAGES = re.compile(SITE_PACKAGES + rb"(?:/[^/]+\.dist-info)?\Z")
_QUOTED_PATH = re.compile(r"""(['"])(/[^'"\n]+)\1""")
_ORIGIN = re.compile(rb"\$(?:ORIGIN(?=/|\Z)|\{ORIGIN\})")
# Where the loader looks anyway, on every server.
_SYSTEMS_OWN = re.compile(rb"/(?:usr/)?lib(?:32|64|x32)?(?:/[a-z0-9_]+-linux-[a-z0-9]+)?")
_MAPPING = re.compile(r"^(?:MAPPING|NAMESPACES)\b[^=\n]*=\s*(\{.*\})\s*$", re.MULTILINE)


class LeadsOutside(NamedTuple):
    """A relative path of the environment, what it is, and the path that it leads to."""

    path: bytes
    kind: str
    leads_to: bytes

    def __str__(self) -> str:
        return "%s (%s)%s%s" % (
            self.path.decode("utf-8", "backslashreplace"),
            self.kind,
            LEADS_TO,
            self.leads_to.decode("utf-8", "backslashreplace"),
        )


def is_worth_reading(path: bytes) -> bool:
    """Whether `in_file` could find something in the file at this relative path."""
    return _IN_SITE_PACKAGES.fullmatch(path) is not None


def may_be_worth_reading(directory: bytes) -> bool:
    """Whether a directory can hold files that `is_worth_reading`."""
    return _SITE_PACKAGES.match(directory) is not None


def in_symlink(path: bytes, target: bytes, environment: bytes) -> Tuple[LeadsOutside, ...]:
    """What a symlink leads to, where that is outside; `environment` is its absolute path.

    By name alone: a link through another link is judged by the other one.
    """
    return tuple(_outside(path, "symlink", [target], environment))


def in_file(path: bytes, content: bytes, environment: bytes) -> Tuple[LeadsOutside, ...]:
    """What a file that `is_worth_reading` leads to, where that is outside; each path once."""
    if len(content) > FILE_MAX_BYTES:
        return ()
    name = posixpath.basename(path)
    if name == b"direct_url.json":
        kind, targets = "editable install", _direct_url(content)
    elif name.endswith(b".egg-link"):
        kind, targets = "editable install", iter(content.splitlines()[:1])
    elif name.endswith(b".py"):
        kind, targets = "editable install", _finder(content)
    else:
        kind, targets = "line of a .pth file", _pth(content)
    found = _outside(path, kind, targets, environment)
    return tuple(dict.fromkeys(found))


class Names(NamedTuple):
    """The absolute paths of an environment: those `here`, and where it is sent to."""

    here: Sequence[bytes]
    there: bytes


def in_run_path(path: bytes, run_path: bytes, names: Names) -> Optional[LeadsOutside]:
    """Where a binary looks for libraries, if that is outside; `$ORIGIN` is resolved for there.

    What is absolute may be left from where the file was built: who asks has to look whether
    anything stands here. The directories of the system and of the prefix are on every server.
    """
    # These depend on the machine.
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
    # What is named by the prefix here becomes the one there. By another name it may be anything.
    here = [known_as, *filter(is_named_for_conda, others)]
    there = base_of(names.there)
    bases = [base for base in (*here, there) if base]
    if _is_below(directory, [posixpath.join(base, b"envs") for base in bases]):
        return False
    if there and _is_below(directory, [there]):
        return True
    return any(is_condas(base, directory) for base in here if base)


def _is_below(path: bytes, directories: Collection[bytes]) -> bool:
    return any(path == one or path.startswith(one + b"/") for one in directories)


def _outside(
    path: bytes, kind: str, targets: Iterable[bytes], environment: bytes
) -> Iterator[LeadsOutside]:
    here = posixpath.join(environment, posixpath.dirname(path))
    for target in targets:
        absolute = posixpath.normpath(posixpath.join(here, target))
        if not _is_below(absolute, [environment]):
            yield LeadsOutside(path, kind, target)


def _pth(content: bytes) -> Iterator[bytes]:
    """The paths that a `.pth` file adds, and those in the lines that it executes."""
    text = content[3:] if content.startswith(b"\xef\xbb\xbf") else content
    for line in text.splitlines():
        if line.startswith((b"import ", b"import\t")):
            for _, quoted in _QUOTED_PATH.findall(_decoded(line)):
                yield _encoded(quoted)
        elif line.strip() and not line.startswith(b"#"):
            yield line.rstrip()


def _direct_url(content: bytes) -> Iterator[bytes]:
    """The project of an editable install, by what pip wrote down about it (PEP 610)."""
    try:
        document: Any = json.loads(content)
    except (ValueError, RecursionError):
        return
    directory: Any = document.get("dir_info") if isinstance(document, dict) else None
    if not isinstance(directory, dict) or directory.get("editable") is not True:
        return
    path = _path_of_url(document.get("url"))
    if path is not None:
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
    """The paths in the tables of the import hook that setuptools writes."""
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
    except UnicodeEncodeError:  # a lone surrogate: no file's name, but it leads nowhere good
        return text.encode("utf-8", "backslashreplace")
