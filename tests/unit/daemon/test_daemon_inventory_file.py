"""The copy of the inventory in force, from which workers read."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from envsync.daemon.inventory_file import WatchedInventory
from envsync.daemon.log import Log
from envsync.daemon.settings import DaemonSettings

INVENTORY = "prefix: /p\nservers:\n  server1: {}\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "envsync.yaml"
    path.write_text(INVENTORY)
    return path


@pytest.fixture
def inventory_file(file: Path) -> WatchedInventory:
    settings = DaemonSettings(file, None, "server1", {})
    copy = file.parent / "state/copy.yaml"
    inventory = WatchedInventory(settings, copy, Log(lambda _: None, {}))
    inventory.read()
    return inventory


def test_a_half_edited_inventory_is_read_by_no_worker(
    inventory_file: WatchedInventory, file: Path
) -> None:
    file.write_text("prefix: [")
    assert inventory_file.read_again() is None
    assert inventory_file.in_force().read_text() == INVENTORY
    file.write_text(INVENTORY)
    assert inventory_file.read_again() is not None
    assert inventory_file.error is None


@pytest.mark.parametrize("what", ["file", "directory"])
def test_a_copy_that_was_removed_is_written_again(
    inventory_file: WatchedInventory, file: Path, what: str
) -> None:
    """As by a person who empties the state directory."""
    copy = inventory_file.in_force()
    file.write_text("prefix: [")
    if what == "file":
        copy.unlink()
    else:
        shutil.rmtree(copy.parent)
    assert inventory_file.in_force().read_text() == INVENTORY


def test_a_copy_that_cannot_be_looked_for_stays_in_use(
    inventory_file: WatchedInventory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a home that is closed for a while; here of a name that no file can have."""
    closed = inventory_file.in_force().with_name("x" * 300)
    monkeypatch.setattr(inventory_file, "_copy", closed)
    assert inventory_file.in_force() == closed


def test_an_outdated_copy_is_read_by_no_worker(
    inventory_file: WatchedInventory, file: Path
) -> None:
    """Where none can be written, as on a full disk."""
    copy = inventory_file.in_force()
    copy.unlink()
    copy.mkdir()
    assert inventory_file.read_again() is not None
    assert inventory_file.in_force() == file
