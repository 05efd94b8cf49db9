"""Valid inventories: what they come to."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from envsync.errors import InventoryError
from envsync.inventory import Environment, Inventory, Server, Watch, find, load
from envsync.inventory.schema import EnvironmentEntry, InventoryFile, ServerEntry, WatchEntry
from envsync.tree.sharing import Share

EXAMPLE = Path(__file__).parents[3] / "config.example.yaml"


def _load_text(directory: Path, text: str) -> Inventory:
    file = directory / "envsync.yaml"
    file.write_text(text)
    return load(file)


def test_inventory_has_its_defaults(tmp_path: Path) -> None:
    inventory = _load_text(tmp_path, "servers: {server1: }\nenvironments: {myenv: }\n")
    assert inventory == Inventory(
        path=tmp_path / "envsync.yaml",
        prefix=None,
        servers=(Server(name="server1", host="server1"),),
        environments=(Environment(name="myenv"),),
        watch=Watch(settle_seconds=10.0, rescan_seconds=3600.0),
    )
    assert inventory.environment("myenv") == Environment(
        name="myenv",
        source=None,
        push_to=(),
        method="auto",
        keep=1,
        check=None,
        check_timeout_seconds=60.0,
        in_use="publish",
        local=(),
        outside="warn",
        watch=False,
        share=None,
    )


def test_every_form_of_a_server(tmp_path: Path) -> None:
    inventory = _load_text(
        tmp_path,
        "prefix: /opt/conda/\n"
        "servers:\n"
        "  a: {}\n"
        "  b:\n"
        "  c: c.lab.example\n"
        "  gpu[01-02]: {user: alice, groups: [gpu, big]}\n"
        "  r[1-2]: r[8-9].lab.example\n"
        "  e: {host: 192.0.2.7, port: 2222, jump: 'x, y:22', identity_file: ~/.ssh/lab,\n"
        "      prefix: /data/conda, limit: 200Mbit}\n",
    )
    prefix = "/opt/conda"
    assert inventory.servers == (
        Server("a", "a", prefix=prefix),
        Server("b", "b", prefix=prefix),
        Server("c", "c.lab.example", prefix=prefix),
        Server("gpu01", "gpu01", user="alice", prefix=prefix, groups=("gpu", "big")),
        Server("gpu02", "gpu02", user="alice", prefix=prefix, groups=("gpu", "big")),
        Server("r1", "r8.lab.example", prefix=prefix),
        Server("r2", "r9.lab.example", prefix=prefix),
        Server(
            "e",
            "192.0.2.7",
            port=2222,
            jump="x,y:22",
            identity_file=Path("~/.ssh/lab"),
            prefix="/data/conda",
            limit_bits_per_second=200_000_000,
        ),
    )
    assert inventory.groups == ("big", "gpu")


def test_every_setting_of_an_environment(tmp_path: Path) -> None:
    inventory = _load_text(
        tmp_path,
        "servers: {a: , b: {groups: [g]}}\n"
        "environments:\n"
        "  e:\n"
        "    source: a\n"
        "    push_to: [b, '@g', 'b']\n"
        "    method: mirror\n"
        "    keep: 0\n"
        "    check: |\n"
        "      set -e\n"
        "      true\n"
        "    check_timeout: 2m\n"
        "    in_use: wait\n"
        "    local: [x/**, '*.log']\n"
        "    outside: fail\n"
        "    watch: yes\n"
        "    share: {group: lab, mode: write}\n"
        "watch: {settle: 500ms, rescan: 1h30m}\n",
    )
    assert inventory.watch == Watch(settle_seconds=0.5, rescan_seconds=5400.0)
    assert inventory.environments == (
        Environment(
            name="e",
            source="a",
            push_to=("b", "@g", "b"),
            method="mirror",
            keep=0,
            check="set -e\ntrue\n",
            check_timeout_seconds=120.0,
            in_use="wait",
            local=("x/**", "*.log"),
            outside="fail",
            watch=True,
            share=Share("lab", "write"),
        ),
    )


@pytest.mark.parametrize("word", ["no", "on", "0123", "1e3", "12:30", "2024-01-01", "null", "~x"])
def test_a_scalar_is_what_was_written(word: str, tmp_path: Path) -> None:
    """YAML would make a boolean, a number or a date of these."""
    if not word.startswith("~"):
        inventory = _load_text(tmp_path, f"servers: {{{word}: }}\n".replace(": }", ": {} }"))
        assert [server.name for server in inventory.servers] == [word]
    text = f"servers: {{a: }}\nenvironments: {{e: {{check: '{word}'}}}}\n"
    assert _load_text(tmp_path, text).environment("e").check == word


def test_an_unquoted_command_that_yaml_takes_for_a_boolean(tmp_path: Path) -> None:
    text = "servers: {a: }\nenvironments: {e: {check: true}}\n"
    assert _load_text(tmp_path, text).environment("e").check == "true"


def test_anchors_and_merge_keys(tmp_path: Path) -> None:
    inventory = _load_text(
        tmp_path,
        "servers:\n"
        "  a: &common {user: alice, port: 22, groups: [g]}\n"
        "  b: {<<: *common, port: 2222}\n"
        "  c: *common\n",
    )
    assert [(server.user, server.port) for server in inventory.servers] == [
        ("alice", 22),
        ("alice", 2222),
        ("alice", 22),
    ]


def test_a_byte_order_mark_is_no_key(tmp_path: Path) -> None:
    assert _load_text(tmp_path, "\ufeffservers: {a: }\n").servers[0].name == "a"


# --- the example --------------------------------------------------------------------------


def test_the_example_is_valid_and_says_what_the_defaults_are() -> None:
    inventory = load(EXAMPLE)
    example, default = inventory.environment("myenv"), Environment("myenv")
    for key in ("method", "keep", "check_timeout_seconds", "in_use", "outside"):
        assert getattr(example, key) == getattr(default, key)
    assert inventory.watch == Watch()
    assert [server.name for server in inventory.targets("myenv")] == [
        "server2",
        *(f"gpu{number:02}" for number in range(3, 9)),
    ]


@pytest.mark.parametrize(
    ("section", "model"),
    [
        (None, InventoryFile),
        ("servers", ServerEntry),
        ("environments", EnvironmentEntry),
        ("watch", WatchEntry),
    ],
)
def test_the_example_has_every_key_and_no_other(
    section: str | None, model: type[BaseModel]
) -> None:
    document = yaml.safe_load(EXAMPLE.read_text())
    entries = {
        None: [document],
        "servers": [e for e in document["servers"].values() if isinstance(e, dict)],
        "environments": list(document["environments"].values()),
        "watch": [document["watch"]],
    }[section]
    assert {key for entry in entries for key in entry} == set(model.model_fields)


def test_the_example_explains_every_key() -> None:
    lines = EXAMPLE.read_text().splitlines()
    for model in (ServerEntry, EnvironmentEntry, WatchEntry):
        for key in model.model_fields:
            assert any(line.strip().startswith(f"{key}:") for line in lines) or any(
                f"`{key}`" in line for line in lines
            ), key


# --- where it is found --------------------------------------------------------------------


def _touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("servers: {a: }\n")
    path.chmod(0o644)
    return path


def test_inventory_is_looked_for_in_order(tmp_path: Path) -> None:
    home, here = tmp_path / "home", tmp_path / "here"
    here.mkdir()
    system = tmp_path / "etc" / "config.yaml"
    environ = {"HOME": str(home), "XDG_CONFIG_HOME": str(tmp_path / "xdg")}

    def found(explicit: Path | None = None, **more: str) -> Path | None:
        return find(explicit, environ | more, directory=here, system_file=system)

    assert found() is None
    assert found() is None
    _touch(home / ".config" / "envsync" / "config.yaml")
    assert found() is None  # XDG_CONFIG_HOME says elsewhere
    assert found(XDG_CONFIG_HOME="") == home / ".config" / "envsync" / "config.yaml"
    assert found(XDG_CONFIG_HOME="relative") == home / ".config" / "envsync" / "config.yaml"
    assert found() is None
    _touch(system)
    assert found() == system
    _touch(tmp_path / "xdg" / "envsync" / "config.yaml")
    assert found() == tmp_path / "xdg" / "envsync" / "config.yaml"
    _touch(here / "envsync.yaml")
    assert found() == here / "envsync.yaml"
    assert found(ENVSYNC_CONFIG="/x/missing.yaml") == Path("/x/missing.yaml")
    assert found(ENVSYNC_CONFIG="") == here / "envsync.yaml"
    assert found(Path("given.yaml"), ENVSYNC_CONFIG="/x/missing.yaml") == Path("given.yaml")


def test_a_directory_of_that_name_hides_no_other_file(tmp_path: Path) -> None:
    system_file = _touch(tmp_path / "etc" / "config.yaml")
    here = tmp_path / "envsync.yaml"
    here.mkdir(mode=0o755)
    found = find(None, {}, directory=tmp_path, system_file=system_file)
    assert found == here
    with pytest.raises(InventoryError, match="it cannot be read: Is a directory"):
        load(found)


def test_pipe_that_nobody_named_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "envsync.yaml")
    assert find(None, {}, directory=tmp_path, system_file=tmp_path / "none") is None


@pytest.mark.parametrize(("closed", "is_told"), [("envsync", True), ("", False)])
def test_a_closed_directory_is_told_if_it_is_the_inventorys_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closed: str, is_told: bool
) -> None:
    """As /etc/envsync that an administrator made with a umask of 077; but a closed home, or a
    current directory that `sudo` left, is none where somebody put an inventory."""
    home = _touch(tmp_path / "home/.config/envsync/config.yaml").parents[2]
    is_below, reach = (home / ".config" / closed), os.stat

    def stat(path: Path, **options: bool) -> os.stat_result:
        if is_below in path.parents:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return reach(path, **options)

    monkeypatch.setattr(Path, "stat", stat)
    environ = {"HOME": str(home)}
    if is_told:
        with pytest.raises(InventoryError, match=r"config\.yaml: it cannot be read: Permission"):
            find(None, environ, directory=tmp_path, system_file=tmp_path / "none")
    else:
        assert find(None, environ, directory=tmp_path, system_file=tmp_path / "none") is None


@pytest.mark.parametrize("place", ["here", "home", "etc"])
def test_a_link_that_leads_nowhere_hides_no_other_file(tmp_path: Path, place: str) -> None:
    files = {
        "here": tmp_path / "here" / "envsync.yaml",
        "home": tmp_path / "home" / ".config" / "envsync" / "config.yaml",
        "etc": tmp_path / "etc" / "config.yaml",
    }
    link = files[place]
    link.parent.mkdir(parents=True)
    link.symlink_to("/gone/lab.yaml")
    if place != "etc":
        _touch(files["etc"])
    with pytest.raises(InventoryError, match="is a link to /gone/lab"):
        find(
            None,
            {"HOME": str(tmp_path / "home")},
            directory=tmp_path / "here",
            system_file=files["etc"],
        )


def test_a_home_that_is_no_path(tmp_path: Path) -> None:
    home = {"HOME": "/" + "x" * 300}
    assert find(None, home, directory=tmp_path, system_file=tmp_path / "none") is None


def test_a_disk_that_fails_is_no_missing_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Path, **__: bool) -> None:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    monkeypatch.setattr(Path, "stat", fail)
    with pytest.raises(InventoryError, match="it cannot be read: Stale file handle") as caught:
        find(None, {}, directory=tmp_path)
    assert "--config FILE" in caught.value.hint


def test_a_file_here_that_everybody_can_write_is_refused(tmp_path: Path) -> None:
    file = _touch(tmp_path / "envsync.yaml")
    file.chmod(0o666)
    with pytest.raises(InventoryError, match="is writable by everyone") as caught:
        find(None, {}, directory=tmp_path)
    assert "--config" in caught.value.hint
    assert find(file, {}, directory=tmp_path) == file


def test_a_file_here_of_another_user_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = _touch(tmp_path / "envsync.yaml")
    if os.geteuid() == 0:
        os.chown(file, 4242, -1)
    else:
        monkeypatch.setattr("os.geteuid", lambda: 4242)
    with pytest.raises(InventoryError, match="belongs to another user"):
        find(None, {}, directory=tmp_path)


# --- what it costs ------------------------------------------------------------------------


def test_without_a_file_neither_yaml_nor_pydantic_is_imported() -> None:
    code = (
        "import sys, envsync.inventory as i; i.find(None, {'HOME': '/nonexistent'});"
        "i.Inventory(prefix='/opt/conda').select(['gpu[1-2]']);"
        "print([m for m in ('yaml', 'pydantic', 'pydantic_core') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout == "[]\n"


def test_a_container_is_reached_through_its_own_host(tmp_path: Path) -> None:
    inventory = _load_text(tmp_path, "servers: {box: {host: gw, port: 2222, jump: gw}}\n")
    assert inventory.server("box").jump == "gw"


def test_a_bastion_may_be_called_jump(tmp_path: Path) -> None:
    inventory = _load_text(tmp_path, "servers: {jump: bastion.lab.example, gpu01: {jump: jump}}\n")
    assert inventory.server("jump").host == "bastion.lab.example"
