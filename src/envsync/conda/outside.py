"""What in an environment leads out of it, and so leads elsewhere on another server.

Editable installs, lines of `.pth` files, `.egg-link` files and symlinks. Python goes on
silently without them, or worse, with whatever stands at that path there.
"""

from __future__ import annotations

import ast
import json
import posixpath
import re
from dataclasses import dataclass
from typing import Any, Dict, Iterable, Iterator, Optional, Tuple
from urllib.parse import unquote_to_bytes, urlsplit

FILE_MAX_BYTES = 1024 * 1024
"""Larger files are none of pip's and are not looked into."""

LEADS_TO = " leads to "
"""In the line about one, before the path that it leads to, which ends the line."""

_IN_SITE_PACKAGES = re.compile(
    rb"lib/(?:python|pypy)[0-9.]+t?/site-packages/(?:"
    rb"[^/]+\.pth|[^/]+\.egg-link|__editable__[^/]*\.py|[^/]+\.dist-info/direct_url\.json)"
)
_SITE_PACKAGES = re.compile(rb"lib/(?:python|pypy)[0-9.]+t?/site-packages(?:/[^/]+\.dist-info)?\Z")
_QUOTED_PATH = re.compile(r"""(['"])(/[^'"\n]+)\1""")
_MAPPING = re.compile(r"^(?:MAPPING|NAMESPACES)\b[^=\n]*=\s*(\{.*\})\s*$", re.MULTILINE)


@dataclass(frozen=True)
class LeadsOutside:
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


def _outside(
    path: bytes, kind: str, targets: Iterable[bytes], environment: bytes
) -> Iterator[LeadsOutside]:
    here = posixpath.join(environment, posixpath.dirname(path))
    for target in targets:
        absolute = posixpath.normpath(posixpath.join(here, target))
        if absolute != environment and not absolute.startswith(environment + b"/"):
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
        except (ValueError, SyntaxError, MemoryError, RecursionError):
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
