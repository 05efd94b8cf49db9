"""One lab for a whole module, whose tests build on the servers as earlier tests left them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conda import Template
from tests.lab.envsync_command import Envsync
from tests.lab.lab import Lab


@pytest.fixture(scope="module")
def served(lab: Lab, lab_template: Template) -> Iterator[Lab]:
    """A lab with conda's base on every host and `myenv` on the controller; reset per module."""
    lab.reset()
    lab.on_all(lambda host: host.install_conda(lab_template, environments=host is lab.controller))
    yield lab
    lab.reset()


@pytest.fixture(scope="module")
def envsync(served: Lab) -> Envsync:
    """The command on the controller, with an inventory."""
    return Envsync(served.controller)
