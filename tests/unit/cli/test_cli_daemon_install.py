"""`envsync daemon install`, as far as that needs no systemd."""

from __future__ import annotations

from pathlib import Path

import pytest

from envsync.files import directories
from tests.unit.cli.conftest import Envsync


def test_it_remembers_no_inventory(
    envsync: Envsync, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is root who runs it, and what root leaves in the user's cache bars the user there."""
    home, file = tmp_path / "account", tmp_path / "config.yaml"
    monkeypatch.setattr(directories, "home", lambda _: str(home))
    file.write_text(f"prefix: {tmp_path}\nservers: {{here: {{}}}}\n")
    ended = envsync("daemon", "install", "--dry-run", "--config", str(file), "--as", "here")
    assert "config.yaml" not in ended.err
    assert not home.exists()
