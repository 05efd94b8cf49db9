"""Where a Python has its packages: one pattern, wherever it is looked for."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from envsync.agent.target.preparation import user_site_findings
from envsync.conda.base_prefix import is_condas
from envsync.conda.metadata import SITE_PACKAGES, is_python
from envsync.daemon.watch_points import site_packages

PYTHONS = ["python3.8", "python3.13t", "python3", "pypy3.10"]
OTHERS = ["python", "python-doc", "python3.12-config", "pythonx", "R", "graalpy24"]


@pytest.mark.parametrize("name", PYTHONS)
def test_a_python_of_any_kind_is_known_everywhere(name: str, tmp_path: Path) -> None:
    assert is_python(name.encode())
    assert re.fullmatch(SITE_PACKAGES, f"lib/{name}/site-packages".encode())
    assert is_condas(b"/opt/b", f"/opt/b/lib/{name}/site-packages/conda/cli".encode())
    (tmp_path / "lib" / name).mkdir(parents=True)
    assert list(site_packages(str(tmp_path))) == [f"{tmp_path}/lib/{name}/site-packages"]
    own = tmp_path / ".local" / "lib" / name / "site-packages" / "numpy"
    own.mkdir(parents=True)
    (found,) = user_site_findings([os.fsencode(f"lib/{name}")], str(tmp_path))
    assert str(own.parent) in found.message


@pytest.mark.parametrize("name", OTHERS)
def test_other_names_are_no_python(name: str, tmp_path: Path) -> None:
    assert not is_python(name.encode())
    assert not re.fullmatch(SITE_PACKAGES, f"lib/{name}/site-packages".encode())
    (tmp_path / "lib" / name).mkdir(parents=True)
    assert list(site_packages(str(tmp_path))) == []
