"""Prefixes, channels and homes for one test."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conda import ENVIRONMENT, Template
from tests.conda.environments import create
from tests.integration.rebuild.two_prefixes import TwoPrefixes
from tests.rebuild.servers import install_command, pip_package, write_channel, write_wheel
from tests.support.agent_fixtures import short_margin

__all__ = ["home", "prefixes", "python_channel", "short_margin", "with_pip"]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A new home."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "cache"))
    monkeypatch.setenv("XDG_STATE_HOME", str(home / "state"))
    return home


@pytest.fixture
def prefixes(tmp_path: Path) -> TwoPrefixes:
    """Two prefixes of different lengths without environments; the second has conda."""
    source, target = tmp_path / "one", tmp_path / "another/place"
    for prefix in (source, target):
        (prefix / "envs").mkdir(parents=True)
        (prefix / "conda-meta").mkdir()
        (prefix / "pkgs").mkdir()
    install_command(target)
    return TwoPrefixes(source, target)


@pytest.fixture(scope="module")
def python_channel(
    conda_template: Template, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """The tests' channel with pip added."""
    channel = tmp_path_factory.mktemp("rebuild") / "channel"
    shutil.copytree(conda_template.channel, channel)
    write_channel(channel, [pip_package()])
    yield channel
    shutil.rmtree(channel)


@pytest.fixture
def with_pip(
    prefixes: TwoPrefixes, python_channel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The directory of wheels that every pip uses instead of an index.

    The source has an environment with Python, packages that embed their prefix, and `labtool
    1.2.3`, installed by pip.
    """
    wheels = write_wheel(tmp_path / "wheels", "labtool", "1.2.3").parent
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    environment = prefixes.source / "envs" / ENVIRONMENT
    specs = ("python", "lab-text", "lab-native", "lab-cli", "lab-links", "pip")
    create(environment, python_channel, specs, package_cache=prefixes.source / "pkgs")
    prefixes.run(environment / "bin/python", "-m", "pip", "install", "labtool")
    return wheels
