"""What the agent does not load for a push: its start is a good part of a small push."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import envsync

NOT_LOADED = {
    "dataclasses", "inspect", "random", "secrets", "shutil", "socket", "subprocess", "tempfile",
    "urllib.parse", "zstandard",
    "envsync.conda.relocation", "envsync.conda.requirements", "envsync.texts.credential_patterns",
}  # fmt: skip


@pytest.mark.parametrize("operations", ["target", "build", "transfer"])
def test_operations_of_a_push_load_nothing_that_few_pushes_need(operations: str) -> None:
    top = Path(envsync.__file__).parents[1]
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import importlib; "
        "importlib.import_module('envsync.agent.operations.process'); "
        "importlib.import_module('envsync.agent.operations.' + sys.argv[2]); "
        "print(*sys.modules)"
    )
    # As the agent is started: without `site`, whose .pth files load modules, too.
    command = [sys.executable, "-S", "-I", "-B", "-c", code, str(top), operations]
    loaded = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert f"envsync.agent.operations.{operations}" in loaded
    assert NOT_LOADED.isdisjoint(loaded)
