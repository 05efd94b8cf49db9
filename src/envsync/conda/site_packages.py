"""Where a Python in an environment has its packages: `lib/python3.12/site-packages`."""

from __future__ import annotations

import re

PYTHON = rb"(?:python|pypy)[0-9.]+t?"
"""A pattern for the name of a Python's directory in `lib`, also of a free-threaded one."""

SITE_PACKAGES = rb"lib/" + PYTHON + rb"/site-packages"
"""A pattern for the relative path of `site-packages`."""

_PYTHON = re.compile(PYTHON)


def is_python(name: bytes) -> bool:
    """Return whether the name of a directory in `lib` is a Python's."""
    return _PYTHON.fullmatch(name) is not None
