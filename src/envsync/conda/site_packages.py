"""Where a Python of an environment has its packages: `lib/python3.12/site-packages`."""

from __future__ import annotations

import re

PYTHON = rb"(?:python|pypy)[0-9.]+t?"
"""In a pattern: what a Python's directory in `lib` is called, also one without a GIL."""

SITE_PACKAGES = rb"lib/" + PYTHON + rb"/site-packages"
"""In a pattern: the relative path of the directory."""

_PYTHON = re.compile(PYTHON)


def is_python(name: bytes) -> bool:
    """Whether a directory of `lib` is a Python's."""
    return _PYTHON.fullmatch(name) is not None
