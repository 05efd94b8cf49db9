"""A lab whose controller has `myenv`, and the command there."""

from __future__ import annotations

import pytest

from tests.integration.push.command import Envsync
from tests.lab.lab import Lab


@pytest.fixture
def envsync(conda_lab: Lab) -> Envsync:
    """The command on the controller, which has a real conda environment."""
    return Envsync(conda_lab.controller)
