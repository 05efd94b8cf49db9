"""What the conda layer reads out of a real environment."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

from envsync.conda import busy, outside
from envsync.conda.ownership import group_paths
from envsync.conda.packages import CONDA, PYPI, list_packages
from tests.conda.environments import installed_packages
from tests.conda.template import CondaPrefix
from tests.conda.wheel import install_wheel


def relative_paths(environment: Path) -> Iterator[bytes]:
    top = os.fsencode(environment)
    for directory, directories, files in os.walk(top):
        for name in directories + files:
            yield os.path.relpath(os.path.join(directory, name), top)


def test_packages_are_those_that_were_installed(conda_prefix: CondaPrefix) -> None:
    environment = conda_prefix.environment()
    install_wheel(environment, "greeter", "1.0")
    found = list_packages(relative_paths(environment))
    by_conda = {one.name: one.version for one in found if one.kind == CONDA}
    assert by_conda == installed_packages(environment)
    assert [(one.name, one.version) for one in found if one.kind == PYPI] == [("greeter", "1.0")]


def test_every_file_of_a_package_is_assigned_to_it(conda_prefix: CondaPrefix) -> None:
    environment = conda_prefix.environment()
    install_wheel(environment, "greeter", "1.0")
    top = os.fsencode(environment)
    paths = list(relative_paths(environment))
    files = [path for path in paths if not (environment / os.fsdecode(path)).is_dir()]

    def read(path: bytes) -> bytes | None:
        try:
            with open(os.path.join(top, path), "rb") as file:
                return file.read()
        except OSError:
            return None

    groups = group_paths(files, paths, read)
    named = {group.package for group in groups if group.package is not None}
    assert named == set(list_packages(paths))
    (others,) = (group for group in groups if group.package is None)
    assert others.path_count < 20, "the history, and what the test's user put there"


def test_an_environment_at_rest_is_not_busy(conda_prefix: CondaPrefix) -> None:
    environment = conda_prefix.environment()
    paths = [(path, time.time()) for path in relative_paths(environment)]
    assert busy.signs(paths, time.time()) == ()


def test_only_links_that_lead_outside_are_reported(conda_prefix: CondaPrefix) -> None:
    environment = conda_prefix.environment()
    top = os.fsencode(environment)
    found = [
        finding.leads_to
        for path in relative_paths(environment)
        if os.path.islink(os.path.join(top, path))
        for finding in outside.in_symlink(path, os.readlink(os.path.join(top, path)), top)
    ]
    assert found == [b"/nonexistent/lab"]
