"""The real command line, on the lab's controller."""

from __future__ import annotations

import pytest

from tests.lab.envsync_command import Envsync
from tests.lab.lab import Lab


@pytest.fixture
def envsync(conda_lab: Lab) -> Envsync:
    return Envsync(conda_lab.controller)
