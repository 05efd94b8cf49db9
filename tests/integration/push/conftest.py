"""The command on the lab's controller, and a source: the real `myenv` or a small one."""

from __future__ import annotations

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
