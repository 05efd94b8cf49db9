"""Finds the conda that this shell uses; it gives the prefix if the inventory does not."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path


def active_conda_prefix(environ: Mapping[str, str]) -> str | None:
    """Return conda's base directory, or None if there is no conda.

    It is found by the active environment, conda's or mamba's own variables, or the two commands on
    the PATH.
    """
    prefix = next((path for path in _candidates(environ) if _is_base(path)), None)
    return None if prefix is None else str(prefix)


def _candidates(environ: Mapping[str, str]) -> Iterator[Path]:
    active = environ.get("CONDA_PREFIX", "")
    if active.startswith("/"):
        path = Path(active)
        yield path.parent.parent if path.parent.name == "envs" else path
    executable = environ.get("CONDA_EXE") or environ.get("MAMBA_EXE") or ""
    if executable.startswith("/"):
        yield Path(executable).parent.parent
    root = environ.get("MAMBA_ROOT_PREFIX", "")
    if root.startswith("/"):
        yield Path(root)
    for name in ("conda", "mamba"):
        on_path = shutil.which(name, path=environ.get("PATH"))
        if on_path is not None:
            yield Path(on_path).parent.parent
            yield Path(on_path).resolve().parent.parent


def _is_base(path: Path) -> bool:
    """Return whether `path` is a base: an environment outside `envs` has no `envs` of its own."""
    return (path / "envs").is_dir() and ((path / "conda-meta").is_dir() or (path / "pkgs").is_dir())
