"""The command, which runs in this process as `main` runs it."""

from __future__ import annotations

from pathlib import Path

import pytest

from envsync.cli.invocation.invocation import Invocation
from envsync.cli.run.entry import run
from tests.support.command_line import Ended, Envsync


@pytest.fixture
def envsync(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Envsync:
    """A function that runs a command, `envsync("push", "myenv")`, without inventory and conda."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    environ = {"HOME": str(tmp_path / "home"), "PATH": "/nonexistent"}

    def call(*arguments: str, **variables: str) -> Ended:
        status = run(arguments, Invocation({**environ, **variables}))
        captured = capsys.readouterr()
        return Ended(status, captured.out, captured.err)

    return call
