"""The prefix of the active conda, by every trace that one leaves."""

from __future__ import annotations

from pathlib import Path

import pytest

from envsync.cli.invocation.active_conda import active_conda_prefix


@pytest.fixture
def base(tmp_path: Path) -> Path:
    base = tmp_path / "miniconda3"
    for directory in ("envs/myenv/conda-meta", "conda-meta", "bin", "condabin"):
        (base / directory).mkdir(parents=True)
    for name in ("bin/conda", "condabin/conda"):
        (base / name).write_text("#!/bin/sh\n")
        (base / name).chmod(0o755)
    return base


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("CONDA_PREFIX", "{base}"),
        ("CONDA_PREFIX", "{base}/envs/myenv"),
        ("CONDA_EXE", "{base}/bin/conda"),
        ("MAMBA_ROOT_PREFIX", "{base}"),
        ("PATH", "/nonexistent:{base}/bin"),
        ("PATH", "{base}/condabin"),
    ],
)
def test_a_trace_of_conda(base: Path, variable: str, value: str) -> None:
    assert active_conda_prefix({variable: value.format(base=base)}) == str(base)


def test_an_environment_elsewhere_says_nothing_but_conda_itself_does(
    base: Path, tmp_path: Path
) -> None:
    (tmp_path / "project" / "env" / "conda-meta").mkdir(parents=True)
    environ = {"CONDA_PREFIX": str(tmp_path / "project" / "env")}
    assert active_conda_prefix({**environ, "PATH": "/nonexistent"}) is None
    assert active_conda_prefix({**environ, "CONDA_EXE": f"{base}/bin/conda"}) == str(base)


@pytest.mark.parametrize("value", ["", "relative/path", "/nonexistent"])
def test_variable_that_names_no_conda_is_passed_over(value: str) -> None:
    environ = {"CONDA_PREFIX": value, "CONDA_EXE": value, "MAMBA_ROOT_PREFIX": value}
    assert active_conda_prefix({**environ, "PATH": "/nonexistent"}) is None


def test_a_link_to_conda_on_the_path_leads_to_it(base: Path, tmp_path: Path) -> None:
    (tmp_path / "local" / "bin").mkdir(parents=True)
    (tmp_path / "local" / "bin" / "conda").symlink_to(base / "bin" / "conda")
    assert active_conda_prefix({"PATH": str(tmp_path / "local" / "bin")}) == str(base)
