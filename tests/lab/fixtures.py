"""Fixtures of the lab, which tests/conftest.py makes available to all tests.

Most tests want `fresh_lab`, whose hosts are empty. `conda_lab` has a conda prefix on each host,
and `myenv` on the controller.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conda import Template
from tests.lab import requirements
from tests.lab.lab import Lab
from tests.support.prerequisites import demand, is_required


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """The hosts server1 (the controller), server2 and server3; started once, at the first use."""
    demand_lab()
    with Lab.start() as started:
        yield started


@pytest.fixture
def fresh_lab(lab: Lab) -> Lab:
    """The lab with empty storage, new homes, unlimited links and no stray process."""
    lab.reset()
    return lab


@pytest.fixture(scope="session")
def lab_template(
    lab: Lab, conda_template: Template, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Template]:
    """The template that `Host.install_conda` installs fastest: made for the lab's prefix."""
    directory = tmp_path_factory.mktemp("lab") / "prefix"
    yield conda_template.at(directory, Path(lab.controller.prefix))
    shutil.rmtree(directory)


@pytest.fixture
def conda_lab(fresh_lab: Lab, lab_template: Template) -> Lab:
    """A fresh lab with conda's base at the prefix of every host, and `myenv` on the controller."""
    controller = fresh_lab.controller
    fresh_lab.on_all(lambda host: host.install_conda(lab_template, environments=host is controller))
    return fresh_lab


@pytest.fixture(scope="session")
def fuse() -> None:
    """FUSE, which `Host.refuse_exchange` and `Host.mount_from` need."""
    missing = requirements.missing_fuse()
    if missing and is_required("lab") and os.geteuid() == 0:
        pytest.fail(f"FUSE is required: {missing}", pytrace=False)
    if missing:
        pytest.skip(f"no FUSE: {missing}")


def demand_lab() -> None:
    """If the lab cannot run, skip the test with the reason, or fail it if the lab is required."""
    demand("lab", requirements.missing())
