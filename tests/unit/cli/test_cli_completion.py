"""What the shell offers at TAB."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.shell_completion import BashComplete

from envsync.cli.invocation.invocation import Invocation
from envsync.cli.run.program import program

_INVENTORY = """\
prefix: {prefix}
servers:
  gpu[1-2]: {{groups: [gpu]}}
  cpu1: {{}}
environments:
  myenv: {{push_to: ["@gpu"]}}
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Has a conda with `here`, an ssh configuration and, elsewhere, an inventory."""
    (tmp_path / "conda/envs/here/conda-meta").mkdir(parents=True)
    (tmp_path / "conda/envs/.envsync").mkdir()
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh/config").write_text("Host server2 server3\nHost *.lab !gate\n  User me\n")
    (tmp_path / "lab.yaml").write_text(_INVENTORY.format(prefix=tmp_path / "conda"))
    return tmp_path


def offered(home: Path, line: str, *, inventory: str = "lab.yaml") -> list[str]:
    """Return what is offered for the last word of the line, which may be empty."""
    environ = {"HOME": str(home), "CONDA_PREFIX": str(home / "conda"), "PATH": os.environ["PATH"]}
    if inventory:
        environ["ENVSYNC_CONFIG"] = str(home / inventory)
    asked = BashComplete(program, {"obj": Invocation(environ)}, "envsync", "_")
    *words, last = line.split(" ")[1:]
    return [item.value for item in asked.get_completions(words, last)]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("envsync ro", ["rollback"]),
        ("envsync push ", ["here", "myenv"]),
        ("envsync push my", ["myenv"]),
        ("envsync push myenv gpu1 ", ["cpu1", "gpu1", "gpu2", "@gpu"]),
        ("envsync push myenv @", ["@gpu"]),
        ("envsync push myenv @ g", ["@gpu"]),  # as bash tells of `@g`
        ("envsync push myenv cpu1 --from gpu", ["gpu1", "gpu2"]),
        ("envsync bootstrap cpu1 --from gpu", ["gpu1", "gpu2"]),
        ("envsync pull myenv ", ["cpu1", "gpu1", "gpu2"]),
        ("envsync daemon pause m", ["myenv"]),
        ("envsync push --overw", ["--overwrite"]),
    ],
)
def test_completions_are_offered(home: Path, line: str, expected: list[str]) -> None:
    assert offered(home, line) == expected


def test_the_inventory_on_the_line_counts(home: Path) -> None:
    (home / "other.yaml").write_text("servers: {elsewhere: {}}\n")
    assert offered(home, f"envsync --config {home}/other.yaml list ") == ["elsewhere"]


@pytest.mark.parametrize("text", ["servers: [", "nosuchkey: 1\n"])
def test_a_broken_inventory_says_nothing(home: Path, text: str) -> None:
    (home / "broken.yaml").write_text(text)
    assert offered(home, "envsync push x ", inventory="broken.yaml") == []


def test_hosts_of_the_ssh_configuration_are_offered_without_an_inventory(home: Path) -> None:
    assert offered(home, "envsync push here ", inventory="") == ["server2", "server3"]
    (home / ".ssh/config").write_bytes(b"\xff\xfe Host")
    assert offered(home, "envsync push here ", inventory="") == []


def test_a_directory_that_can_be_no_environment_is_not_offered(home: Path) -> None:
    """One of these names could not even be printed, so that nothing was offered at all."""
    for name in (b"\xff", b"two\nlines", b"base"):
        Path(home, "conda/envs", os.fsdecode(name), "conda-meta").mkdir(parents=True)
    assert offered(home, "envsync push ") == ["here", "myenv"]
