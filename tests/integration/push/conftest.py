"""The command on the lab's controller, and a source: the real `myenv` or a small one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.push.command import Envsync
from tests.integration.push.stamped import Stamped
from tests.lab.lab import Lab


@pytest.fixture
def envsync(conda_lab: Lab) -> Envsync:
    """The command on the controller, which has a real conda environment."""
    return Envsync(conda_lab.controller)


@pytest.fixture
def source(fresh_lab: Lab) -> Stamped:
    """A small environment on the controller, many files of which change together."""
    return Stamped.in_lab(fresh_lab)


@pytest.fixture
def own_homes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache and a state of envsync's for this test, in this process."""
    for name in ("cache", "state"):
        monkeypatch.setenv(f"XDG_{name.upper()}_HOME", str(tmp_path / name))
