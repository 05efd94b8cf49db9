"""Which CUDA the driver of a server can run, where its library is not at hand."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import NoReturn

import pytest

from envsync.agent.server import program_version
from envsync.agent.server.cuda import driver_cuda_version


@pytest.mark.parametrize(
    ("said", "version"),
    [
        (
            "Driver Version                            : 550.54.14\n    CUDA Version : 12.4\n",
            "12.4",
        ),
        ("| NVIDIA-SMI 470.57.02   Driver Version: 470.57.02   CUDA Version: 11.4 |", "11.4"),
        ("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.", ""),
        ("", ""),
    ],
)
@pytest.mark.usefixtures("no_library")
def test_its_own_program_tells(tmp_path: Path, said: str, version: str) -> None:
    _write_program(tmp_path, f"cat <<'END'\n{said}\nEND")
    assert driver_cuda_version() == version


@pytest.mark.usefixtures("no_library")
def test_what_a_program_that_hangs_would_tell_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program_version, "_SECONDS", 0.1)
    _write_program(tmp_path, "kill -STOP $$")
    assert driver_cuda_version() is None


@pytest.fixture
def no_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No driver's library, and this directory's programs first."""

    def is_not_there(*_: object) -> NoReturn:
        raise OSError

    monkeypatch.setattr(ctypes, "CDLL", is_not_there)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")


def _write_program(directory: Path, script: str) -> None:
    program = directory / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
