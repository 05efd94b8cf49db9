"""What an inventory said is remembered by its content, and never gets in the way."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from envsync.errors import InventoryError
from envsync.inventory import load, remembered

TEXT = """
prefix: /opt/conda
servers:
  server1: {}
  gpu[1-2]: {groups: [gpu], identity_file: ~/.ssh/lab, limit: 200Mbit}
environments:
  myenv: {push_to: ["@gpu"], local: ["share/x/**"], check: "python -c pass"}
watch: {settle: 3s}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "envsync.yaml"
    path.write_text(TEXT)
    return path


def _known() -> list[Path]:
    return sorted(Path(os.environ["XDG_CACHE_HOME"], "envsync", "inventory").iterdir())


def test_the_second_reading_gives_the_same(file: Path) -> None:
    first = load(file)
    assert len(_known()) == 1
    assert load(file) == first


def test_the_second_reading_validates_nothing(file: Path) -> None:
    load(file)
    code = (
        "import sys; from pathlib import Path; from envsync.inventory import load; "
        "load(Path(sys.argv[1])); sys.exit('pydantic' in sys.modules or 'yaml' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(file)], check=True, timeout=30)


def test_the_same_text_elsewhere_has_its_own_path(file: Path, tmp_path: Path) -> None:
    load(file)
    other = tmp_path / "other.yaml"
    other.write_text(TEXT)
    assert load(other).path == other
    assert len(_known()) == 1


def test_a_changed_text_is_read_anew(file: Path) -> None:
    load(file)
    file.write_text(TEXT.replace("3s", "5s"))
    assert load(file).watch.settle_seconds == 5


def test_a_clone_that_was_updated_reads_anew(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the version that it had: its rules may be others."""
    rules = tmp_path / "rules"
    rules.mkdir()
    (rules / "schema.py").write_text("old\n")
    monkeypatch.setattr(remembered, "_HERE", rules)
    load(file)
    load(file)
    assert len(_known()) == 1
    (rules / "schema.py").write_text("newer\n")
    load(file)
    assert len(_known()) == 2


def test_remembered_inventory_says_the_same_in_another_home(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One cache for a home that is mounted elsewhere: whose `~` it is, is not remembered."""
    files = []
    for home in ("/net/alice", "/home/alice"):
        monkeypatch.setenv("HOME", home)
        files.append(load(file).server("gpu1").identity_file)
    assert files == [Path("~/.ssh/lab")] * 2
    assert len(_known()) == 1


def test_malformed_inventory_is_not_remembered(file: Path) -> None:
    file.write_text(TEXT + "nonsense: 1\n")
    for _ in range(2):
        with pytest.raises(InventoryError, match="nonsense"):
            load(file)


_OF_NO_SERVER = b'{"prefix": null, "servers": [3], "environments": [], "watch": {}}'


@pytest.mark.parametrize(
    "damage",
    [b"", b"{", b"[]", b'{"servers": 3}', b"\xff\xff", b"[" * 200_000, _OF_NO_SERVER],
    ids=lambda damage: damage[:12],
)
def test_a_damaged_memory_is_none(file: Path, damage: bytes) -> None:
    first = load(file)
    [known] = _known()
    known.write_bytes(damage)
    assert load(file) == first


@pytest.mark.parametrize("whose", ["another user's", "everybody's"])
def test_a_memory_of_somebody_else_is_none(
    file: Path, monkeypatch: pytest.MonkeyPatch, whose: str
) -> None:
    """Its checks would run as this user: in a cache directory that several share."""
    first = load(file)
    [known] = _known()
    known.write_text(known.read_text().replace("python -c pass", "rm -rf ~"))
    if whose == "everybody's":
        known.chmod(0o666)
    elif os.geteuid() == 0:
        os.chown(known, 4242, -1)
    else:
        monkeypatch.setattr("os.geteuid", lambda: 4242)
    assert load(file) == first


def test_nothing_is_remembered_where_that_is_not_wanted(file: Path) -> None:
    load(file, None)
    assert not Path(os.environ["XDG_CACHE_HOME"], "envsync").exists()


def test_inventory_is_read_each_time_without_a_cache_directory(file: Path, tmp_path: Path) -> None:
    assert load(file, {"HOME": ""}) == load(file)
    unwritable = tmp_path / "no-directory"
    unwritable.write_text("")
    assert load(file, {"XDG_CACHE_HOME": str(unwritable)}) == load(file)


def test_few_are_kept(file: Path) -> None:
    for number in range(20):
        file.write_text(TEXT.replace("3s", f"{number + 1}s"))
        load(file)
    assert len(_known()) <= 8
