"""Which CUDA the driver of a server can run, where its library is not at hand."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import NoReturn

import pytest

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
def test_its_own_program_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, version: str
) -> None:
    def is_not_there(*_: object) -> NoReturn:
        raise OSError

    monkeypatch.setattr(ctypes, "CDLL", is_not_there)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{said}\nEND\n")
    program.chmod(0o755)
    assert driver_cuda_version() == version
