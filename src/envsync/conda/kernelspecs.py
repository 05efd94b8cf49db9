"""Jupyter's kernelspecs outside an environment: where they are, and which start its Python.

`ipython kernel install --user` writes one into the user's home. It is not sent with the
environment, so a notebook on another server does not find its kernel.
"""

from __future__ import annotations

import os
import posixpath
from typing import Collection, List, Mapping

from envsync.files.json_object import json_object


def directories(environ: Mapping[str, str], home: str, base: str) -> List[str]:
    """Return the directories outside an environment in which Jupyter looks for kernelspecs.

    These are the user's and the base prefix's.
    """
    data = environ.get("JUPYTER_DATA_DIR") or ""
    if not data:
        share = environ.get("XDG_DATA_HOME") or os.path.join(home, ".local", "share")
        data = os.path.join(share, "jupyter")
    tops = data, os.path.join(base, "share", "jupyter")
    return [os.path.join(top, "kernels") for top in tops if os.path.isabs(top)]


def starts(content: bytes, environments: Collection[bytes]) -> bool:
    """Return whether a `kernel.json` runs a program of the environment.

    `environments` are the environment's paths, with and without symlinks resolved. What is in its
    `envs` belongs to other environments: it is the base.
    """
    arguments = json_object(content).get("argv")
    if not isinstance(arguments, list) or not arguments or not isinstance(arguments[0], str):
        return False
    program = posixpath.normpath(os.fsencode(arguments[0].encode("utf-8", "replace")))
    return any(
        program.startswith(path + b"/") and not program.startswith(path + b"/envs/")
        for path in environments
    )
