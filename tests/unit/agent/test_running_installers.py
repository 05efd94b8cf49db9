"""Installers among real processes, however they name the environment."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from envsync.agent.server.running_installers import installers_at_work

SHELL = "/bin/sh"


@pytest.fixture
def top(tmp_path: Path) -> Path:
    """An environment whose Python is a copy of the shell; `miniconda` leads to its prefix."""
    (tmp_path / "prefix/envs/myenv/bin").mkdir(parents=True)
    (tmp_path / "miniconda").symlink_to("prefix")
    shutil.copy(SHELL, tmp_path / "prefix/envs/myenv/bin/python3.11")
    (tmp_path / "prefix/envs/myenv/bin/python").symlink_to("python3.11")
    return tmp_path / "prefix/envs/myenv"


@contextlib.contextmanager
def running(
    argv: list[str], executable: str | Path = SHELL, **environ: str
) -> Iterator[tuple[str, int]]:
    """A shell that runs until the block ends under such a command line; what is expected of it."""
    name, *arguments = argv
    process = subprocess.Popen(
        [name, "-c", "echo runs; read _", *arguments],
        executable=executable,
        env=environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"runs\n"
        yield os.path.basename(name), process.pid
    finally:
        process.communicate()


def at_work(top: Path) -> list[tuple[str, int]]:
    return list(installers_at_work([bytes(top)]))


@pytest.mark.parametrize(
    ("argv", "variable"),
    [
        (["{tmp}/miniconda/envs/myenv/bin/pip", "install"], ""),
        (["conda", "install", "-p", "{tmp}/miniconda/envs/myenv"], ""),
        (["conda", "install", "-p{tmp}/current"], ""),
        (["conda", "install", "--prefix=~/miniconda/envs/myenv"], ""),
        (["uv", "install", "--python", "{tmp}/miniconda/envs/myenv/bin/python"], ""),
        (["uv", "install", "--python", "{tmp}/python"], ""),
        (["conda", "install"], "{tmp}/miniconda/envs/myenv"),
    ],
)
def test_environment_named_through_a_link_is_seen(
    top: Path, tmp_path: Path, argv: list[str], variable: str
) -> None:
    (tmp_path / "current").symlink_to("miniconda/envs/myenv")
    (tmp_path / "python").symlink_to("miniconda/envs/myenv/bin/python")
    command = [part.format(tmp=tmp_path) for part in argv]
    variable = variable.format(tmp=tmp_path)
    with running(command, CONDA_PREFIX=variable, HOME=str(tmp_path)) as expected:
        assert expected in at_work(top)
        assert expected in at_work(tmp_path / "current")
        assert expected not in at_work(top.with_name("other"))
    assert expected not in at_work(top)


def test_python_that_is_a_link_out_of_the_environment_is_its_own(top: Path, tmp_path: Path) -> None:
    (top / "bin/python").unlink()
    (top / "bin/python").symlink_to(SHELL)
    with running(["uv", "install", f"--python={tmp_path}/miniconda/envs/myenv/bin/python"]) as uv:
        assert uv in at_work(top)
    with running([f"{tmp_path}/miniconda/envs/myenv/bin/pip", "install"]) as pip:
        assert pip in at_work(top)


def test_program_in_the_environment_is_seen_under_any_name(top: Path, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/pip").symlink_to(top / "bin/python3.11")
    with running([f"{tmp_path}/bin/pip", "install"], top / "bin/python3.11") as expected:
        assert expected in at_work(top)


def test_pip_of_a_virtual_environment_does_not_change_the_environment_that_made_it(
    top: Path, tmp_path: Path
) -> None:
    (tmp_path / "venv/bin").mkdir(parents=True)
    (tmp_path / "venv/pyvenv.cfg").touch()
    python = tmp_path / "venv/bin/python"
    python.symlink_to(top / "bin/python3.11")
    with running([f"{tmp_path}/venv/bin/pip", "install"], python) as pip:
        assert pip not in at_work(top)
    with running(["uv", "install", "--python", str(python)]) as uv:
        assert uv not in at_work(top)
