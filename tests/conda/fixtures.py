"""Fixtures of real conda environments, which tests/conftest.py makes available to all tests."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conda.template import CondaPrefix, Template, template


@pytest.fixture(scope="session")
def conda_template() -> Template:
    """A conda prefix to copy, made once per machine and then kept in the user's cache."""
    return template()


@pytest.fixture
def conda_prefix(conda_template: Template, tmp_path: Path) -> Iterator[CondaPrefix]:
    """A conda prefix for one test, with base and the environment `myenv`."""
    prefix = conda_template.copy(tmp_path / "prefix")
    yield prefix
    shutil.rmtree(prefix.path)
