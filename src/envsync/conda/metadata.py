"""Where conda and pip keep what they know of an environment, and how to read it."""

from __future__ import annotations

import contextlib
import csv
import io
import re
from typing import Any, Iterator, List, Mapping, Tuple

HISTORY = b"conda-meta/history"

PYTHON = rb"(?:python|pypy)[0-9.]+t?"
"""A pattern for the name of a Python's directory in `lib`, also of a free-threaded one."""

SITE_PACKAGES = rb"lib/" + PYTHON + rb"/site-packages"
"""A pattern for the relative path of `site-packages`, such as `lib/python3.12/site-packages`."""

_PYTHON = re.compile(PYTHON)
CONDA_RECORD = re.compile(rb"conda-meta/([^/]+)\.json\Z")
"""Matches the path of conda's record of a package; the group is NAME-VERSION-BUILD."""

_PIP_RECORD = re.compile(rb"(?:.*/)?[^/]+\.dist-info/RECORD\Z")


def is_python(name: bytes) -> bool:
    """Return whether the name of a directory in `lib` is a Python's."""
    return _PYTHON.fullmatch(name) is not None


def is_conda_record(path: bytes) -> bool:
    return CONDA_RECORD.match(path) is not None


def is_pip_record(path: bytes) -> bool:
    return _PIP_RECORD.match(path) is not None


def files_of_conda(record: Mapping[str, Any]) -> Tuple[bytes, ...]:
    """Return the relative paths of a package's files by its record; empty if it is damaged."""
    files = record.get("files")
    if not isinstance(files, list):
        return ()
    return tuple(path_bytes(path) for path in files if isinstance(path, str))


def is_editable(direct_url: Mapping[str, Any]) -> bool:
    """Return whether a `direct_url.json` (PEP 610) is of an editable install."""
    directory = direct_url.get("dir_info")
    return isinstance(directory, dict) and directory.get("editable") is True


def record_rows(content: bytes) -> Iterator[List[str]]:
    """Yield the rows of a `.dist-info/RECORD`; only those before the damage if it is damaged.

    The first column is a path (`path_bytes`).
    """
    # Not `splitlines`, which also ends a line at characters that may be in a path.
    lines = io.StringIO(content.decode("utf-8", "surrogateescape"), newline="")
    with contextlib.suppress(csv.Error):
        yield from csv.reader(lines)


def path_bytes(text: str) -> bytes:
    """Return the path that a record has as text; b"" for a lone surrogate, in no file's name."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return b""
