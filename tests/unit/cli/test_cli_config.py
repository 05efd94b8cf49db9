"""`envsync config`, and an inventory as every command meets it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tests.support.command_line import Envsync
from tests.support.documented_json import check_document

VALID = """\
prefix: /workspace/alice/miniconda3
servers:
  server1: {}
  gpu[1-2]: {groups: [gpu]}
environments:
  myenv: {push_to: ["@gpu"]}
"""
INVALID = "prefix: miniconda3\nservers:\n  server1: {prot: 22}\n"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home" / ".config" / "envsync").mkdir(parents=True)
    return tmp_path / "home"


def test_config_check_accepts_a_valid_inventory(envsync: Envsync, home: Path) -> None:
    file = home / ".config/envsync/config.yaml"
    file.write_text(VALID)
    ended = envsync("config", "check")
    assert (ended.status, ended.err) == (0, "")
    assert ended.out == f"{file}: valid, 3 servers, 1 environment\n"
    document = check_document(envsync("config", "check", "--json").out)
    assert document["command"] == "config check"
    assert document["result"]["servers"] == ["server1", "gpu1", "gpu2"]


def test_an_environment_that_is_watched_for_nobody_is_named(envsync: Envsync, home: Path) -> None:
    file = home / ".config/envsync/config.yaml"
    file.write_text(VALID + "  torch24: {source: server1, watch: true}\n")
    ended = envsync("config", "check")
    assert ended.status == 0
    assert ended.err == (
        "warning: torch24: watch is true, but push_to is empty: the daemon pushes it to no server\n"
    )
    (warning,) = check_document(envsync("config", "check", "--json").out)["result"]["warnings"]
    assert warning.startswith("torch24: ")


def test_an_environment_that_no_daemon_would_push_is_named(envsync: Envsync, home: Path) -> None:
    file = home / ".config/envsync/config.yaml"
    entry = "{source: server1, push_to: [gpu1], method: pack, watch: %s}"
    file.write_text(f"{VALID}  torch24: {entry % 'true'}\n  torch25: {entry % 'false'}\n")
    ended = envsync("config", "check")
    assert (ended.status, ended.err) == (
        0,
        "warning: torch24: watch is true, but the method is pack: the daemon does not pack\n",
    )


def test_config_path_prints_the_inventory_that_is_used(envsync: Envsync, home: Path) -> None:
    file = home / ".config/envsync/config.yaml"
    file.write_text(VALID)
    assert envsync("config", "path").out == f"{file}\n"
    assert check_document(envsync("config", "path", "--json").out)["result"]["path"] == str(file)
    (home / "other.yaml").write_text(VALID)
    other = str(home / "other.yaml")
    assert envsync("--config", other, "config", "path").out == f"{other}\n"
    assert envsync("config", "path", "--config", other).out == f"{other}\n"
    assert envsync("config", "path", ENVSYNC_CONFIG=other).out == f"{other}\n"


def test_config_path_without_an_inventory_says_where_it_looked(envsync: Envsync) -> None:
    ended = envsync("config", "path")
    assert (ended.status, ended.out) == (21, "")
    assert ended.err.startswith("envsync: there is no inventory\n  looked for, in this order:\n")
    assert check_document(envsync("config", "check", "--json").out)["exit_code"] == 21


def test_inventory_whose_name_ends_with_yml_is_told(envsync: Envsync, home: Path) -> None:
    file = home / ".config/envsync/config.yml"
    file.write_text(VALID)
    ended = envsync("config", "path")
    assert ended.status == 21
    assert f"there is no inventory, but {file}, which is not read\n" in ended.err
    assert f"mv {file} {file.with_suffix('.yaml')}" in ended.err


def test_a_named_file_that_may_not_be_read(
    envsync: Envsync, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who reads it says so, with what mends it; not the command line's own check."""
    file = tmp_path / "lab.yaml"
    file.write_text(VALID)

    def refuse(*_: object) -> object:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setattr(Path, "open", refuse)
    told = envsync("--config", str(file), "config", "check").err
    assert told.startswith(f"envsync: {file}: it cannot be read: Permission denied\n  → name a")


def test_a_file_that_is_named_and_not_there(envsync: Envsync) -> None:
    told = envsync("list", ENVSYNC_CONFIG="/nonexistent/envsync.yaml")
    assert told.status == 2
    assert told.err.startswith("envsync: /nonexistent/envsync.yaml: there is no such file\n")
    assert "$ENVSYNC_CONFIG names it" in told.err


def test_a_typo_and_no_subcommand_at_all(envsync: Envsync) -> None:
    assert "no such command 'chek'; did you mean 'check'?" in envsync("config", "chek").err
    document = check_document(envsync("config", "--json").out)
    assert document["error"]["message"] == "missing command"


@pytest.mark.parametrize("command", ["push", "history", "verify"])
def test_without_push_to_the_command_itself_is_named(
    envsync: Envsync, home: Path, command: str
) -> None:
    (home / ".config/envsync/config.yaml").write_text(VALID)
    told = envsync(command, "other").err
    assert f"name servers: `envsync {command} other SERVER`" in told


@pytest.mark.parametrize("line", ["config check", "push myenv", "list", "verify myenv server1"])
def test_invalid_inventory_stops_every_command(envsync: Envsync, home: Path, line: str) -> None:
    file = home / ".config/envsync/config.yaml"
    file.write_text(INVALID)
    ended = envsync(*line.split())
    assert (ended.status, ended.out) == (2, "")
    assert f"envsync: {file}:1: prefix: expected an absolute path" in ended.err
    assert f"  {file}:3: servers.server1.prot: expected one of" in ended.err
    assert "`envsync config check`" in ended.err
    document = check_document(envsync(*line.split(), "--json").out)
    assert document["error"]["code"] == "inventory"


@pytest.mark.parametrize("line", ["list", "config check", "daemon", "daemon install"])
def test_hint_for_an_invalid_inventory_names_the_file_that_was_given(
    envsync: Envsync, tmp_path: Path, line: str
) -> None:
    file = tmp_path / "of lab.yaml"
    file.write_text(INVALID)
    arguments = ("--config", str(file), *line.split())
    hint = f"correct the file, then check it with `envsync --config '{file}' config check`"
    assert hint in envsync(*arguments).err
    assert check_document(envsync(*arguments, "--json").out)["error"]["hint"] == hint


@pytest.mark.parametrize("line", ["config check", "config path", "push myenv server2", "list"])
def test_inventory_that_is_not_there_is_reported(envsync: Envsync, line: str) -> None:
    ended = envsync("--config", "/nowhere.yaml", *line.split())
    assert ended.status == 2
    assert ended.err.startswith("envsync: /nowhere.yaml: there is no such file\n")


@pytest.mark.parametrize("arguments", [("--config", "", "config", "path"), ("list", "--config=")])
def test_an_empty_config_option_is_refused(envsync: Envsync, arguments: tuple[str, ...]) -> None:
    ended = envsync(*arguments)
    assert ended.status == 2
    assert ended.err.startswith("envsync: invalid value for '--config': it names no file\n")
