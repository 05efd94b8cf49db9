"""What `envsync daemon install` writes."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from envsync.daemon.systemd.units import (
    Account,
    ServiceSpec,
    system_unit,
    user_directory,
    user_unit,
)
from envsync.errors import UsageError
from envsync.hint_commands import with_config

ALICE = Account("alice", 1000, 1000, Path("/home/alice"))
SERVICE = ServiceSpec(
    account=ALICE,
    program=Path("/opt/envsync/bin/envsync"),
    inventory=Path("/home/alice/.config/envsync/config.yaml"),
    own_name="server1",
    prefix=Path("/workspace/alice/miniconda3"),
)
REPOSITORY = Path(__file__).resolve().parents[3]


def test_the_system_unit_is_the_shipped_one_and_a_drop_in() -> None:
    unit = system_unit(SERVICE)
    template, drop_in = unit.files
    assert unit.name == "envsync@alice.service"
    assert str(template.path) == "/etc/systemd/system/envsync@.service"
    assert template.content == (REPOSITORY / "systemd/envsync@.service").read_text()
    assert str(drop_in.path) == "/etc/systemd/system/envsync@alice.service.d/50-install.conf"
    assert drop_in.content.splitlines()[1:] == [
        "[Unit]",
        "RequiresMountsFor=/home/alice /workspace/alice/miniconda3",
        "",
        "[Service]",
        "ExecStart=",
        (
            "ExecStart=/opt/envsync/bin/envsync daemon --config"
            " /home/alice/.config/envsync/config.yaml --as server1"
        ),
        "ReadWritePaths=-/home/alice/.local/state -/home/alice/.cache",
    ]


def test_an_inventory_that_the_system_unit_hides_is_refused(tmp_path: Path) -> None:
    link = tmp_path / "link.yaml"
    link.symlink_to("/var/tmp/lab.yaml")
    for path in (Path("/tmp/lab.yaml"), link):
        hidden = replace(SERVICE, inventory=path)
        with pytest.raises(UsageError, match=f"cannot see {path} there") as raised:
            system_unit(hidden)
        assert raised.value.hint.endswith(" to /home/alice/.config/envsync/config.yaml")
        user_unit(hidden, tmp_path, "server1")  # sees it
    [_, drop_in] = system_unit(replace(SERVICE, inventory=Path("/tmp/lab/lab.yaml"))).files
    assert "BindReadOnlyPaths=/tmp/lab\n" in drop_in.content


def test_files_are_shown_as_they_are_written(tmp_path: Path) -> None:
    """And not with the `--config` that was given, which is put into commands that are shown."""
    for file in (*system_unit(SERVICE).files, *user_unit(SERVICE, tmp_path, "server1").files):
        for text in (file.content, *file.content.splitlines()):
            assert with_config(text, "lab.yaml") == text


def test_the_user_unit_names_no_path_but_the_program_and_the_inventory(tmp_path: Path) -> None:
    unit = user_unit(SERVICE, tmp_path, "server1")
    shipped, drop_in, _ = unit.files
    assert unit.name == "envsync.service"
    assert shipped.path == tmp_path / "envsync.service"
    assert shipped.content == (REPOSITORY / "systemd/user/envsync.service").read_text()
    assert [line.partition("=")[0] for line in drop_in.content.splitlines()[1:]] == [
        "[Unit]",
        "ConditionPathExists",
        "ConditionPathExists",
        "",
        "[Service]",
        "ExecStart",
        "ExecStart",
        "EnvironmentFile",
        "EnvironmentFile",
    ]


def test_machines_that_share_a_home_run_the_user_unit_by_their_own_names(tmp_path: Path) -> None:
    """Only where it was installed: with the other's name, one would push as the other."""
    directory = tmp_path / "100 %"
    server1 = user_unit(replace(SERVICE, own_name="server1"), directory, "gpu1.lab")
    server2 = user_unit(replace(SERVICE, own_name="server2"), directory, "gpu2.lab")
    unnamed = user_unit(replace(SERVICE, own_name=None), directory, "gpu3")
    assert server1.files[:2] == server2.files[:2] == unnamed.files[:2]
    drop_in = server1.files[1]
    assert "--as" not in drop_in.content
    # As systemd spells a percent sign, and the hostname.
    here = f"{tmp_path}/100 %%/envsync.service.d/on-"
    assert f"ConditionPathExists=|{here}%H\nConditionPathExists=|{here}%l\n" in drop_in.content
    assert f"EnvironmentFile=-{here}%H\nEnvironmentFile=-{here}%l\n" in drop_in.content
    own = [file for unit in (server1, server2, unnamed) for file in unit.files[2:]]
    assert {file.path.name: file.content.splitlines()[1:] for file in own} == {
        "on-gpu1": ["ENVSYNC_SELF=server1"],
        "on-gpu1.lab": ["ENVSYNC_SELF=server1"],
        "on-gpu2": ["ENVSYNC_SELF=server2"],
        "on-gpu2.lab": ["ENVSYNC_SELF=server2"],
        "on-gpu3": ["ENVSYNC_SELF="],
    }
    assert drop_in.path.parent == server1.files[2].path.parent


@pytest.mark.parametrize(
    ("path", "written"),
    [
        ("/opt/a b/envsync", '"/opt/a b/envsync"'),
        ("/opt/100%/envsync", "/opt/100%%/envsync"),
        ("/opt/$HOME/envsync", "/opt/$$HOME/envsync"),
        ('/opt/"q"\\/envsync', '"/opt/\\"q\\"\\\\/envsync"'),
        ("/opt/höchst/envsync", "/opt/höchst/envsync"),
    ],
)
def test_a_path_reaches_systemd_as_it_is(path: str, written: str) -> None:
    service = ServiceSpec(ALICE, Path(path), Path("/i.yaml"), None, Path("/p"))
    lines = system_unit(service).files[1].content.splitlines()
    assert f"ExecStart={written} daemon --config /i.yaml" in lines


def test_the_users_own_places_are_kept() -> None:
    variables = {"XDG_STATE_HOME": "/data/state", "XDG_CACHE_HOME": "relative"}
    service = ServiceSpec(ALICE, Path("/e"), Path("/i"), None, Path("/p"), variables)
    content = system_unit(service).files[1].content
    assert "Environment=XDG_STATE_HOME=/data/state\n" in content
    assert "ReadWritePaths=-/data/state -/home/alice/.cache\n" in content


def test_places_that_are_links_are_opened_where_they_lead(tmp_path: Path) -> None:
    home, disk = tmp_path / "home", tmp_path / "disk"
    for directory in (home / ".local", home / ".cache", disk / "state/envsync", disk / "cache"):
        directory.mkdir(parents=True)
    (home / ".local/state").symlink_to(disk / "state")
    (home / ".cache/envsync").symlink_to(disk / "cache")
    account = replace(SERVICE.account, home=home)
    content = system_unit(replace(SERVICE, account=account)).files[1].content
    # systemd follows a link that it is given, and none below.
    assert f"ReadWritePaths=-{home}/.local/state -{home}/.cache -{disk}/cache\n" in content
    assert f"RequiresMountsFor={home} /workspace/alice/miniconda3 {disk}/cache\n" in content


def test_a_program_below_tmp_is_let_into_the_services_own_tmp() -> None:
    """PrivateTmp= would hide it: a trial installation is made in /tmp, and so is many a clone."""
    places = ("/opt/python", "/tmp/clone/.venv", "/tmp/clone", "/tmp/clone/src", "/var/tmp/more")
    service = replace(SERVICE, program_directories=tuple(map(Path, places)))
    [_, drop_in] = system_unit(service).files
    assert drop_in.content.splitlines()[-1] == "BindReadOnlyPaths=/tmp/clone /var/tmp/more"


def test_value_that_no_unit_can_hold_is_refused() -> None:
    bad_name = Account("LAB\\alice", 1, 1, Path("/h"))
    with pytest.raises(UsageError):
        system_unit(ServiceSpec(bad_name, Path("/e"), Path("/i"), None, Path("/p")))
    with pytest.raises(UsageError):
        system_unit(ServiceSpec(ALICE, Path("/e\nUser=root"), Path("/i"), None, Path("/p")))


@pytest.mark.parametrize(
    ("environ", "directory"),
    [
        ({}, "/home/alice/.config/systemd/user"),
        ({"XDG_CONFIG_HOME": "/c"}, "/c/systemd/user"),
        ({"XDG_CONFIG_HOME": "c"}, "/home/alice/.config/systemd/user"),
    ],
)
def test_directory_of_user_units_is_systemds(environ: dict[str, str], directory: str) -> None:
    assert str(user_directory(ALICE.home, environ)) == directory


def shipped_lines(unit: str) -> list[str]:
    return (REPOSITORY / "systemd" / unit).read_text().replace("\\\n", " ").splitlines()


both_units = pytest.mark.parametrize("unit", ["envsync@.service", "user/envsync.service"])


@both_units
def test_system_call_filter_is_a_deny_list_which_systemd_237_understands(unit: str) -> None:
    """There @system-service is unknown, and a list that allows only that allows no `execve`."""
    filters = [line for line in shipped_lines(unit) if line.startswith("SystemCallFilter=")]
    assert filters
    assert all(line.startswith("SystemCallFilter=~@") for line in filters)


@both_units
def test_starts_after_failures_come_ever_later(unit: str, tmp_path: Path) -> None:
    """The line is a shell's, so a shell runs it, with `systemctl` and `sleep` of our own.

    They know what systemd 235 knows: the unit's prefixes are - @ + !, and `show` has no -P.
    """
    [line] = [line for line in shipped_lines(unit) if line.startswith("ExecStartPre=")]
    assert line.startswith("ExecStartPre=-/bin/sh -c '")
    script = line.partition(" -c '")[2].removesuffix("'")
    assert "$" not in script.replace("$$", "")
    show = "--user show" if unit.startswith("user/") else "show"
    asked = f"{show} --property=NRestarts --value %n"
    for name, body in (
        ("systemctl", f'[ "$*" = "{asked}" ] && echo "$RESTARTS"'),
        ("sleep", 'echo "$1"'),
    ):
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)

    def waits(restarts: str) -> str:
        environ = {"PATH": str(tmp_path), "RESTARTS": restarts}
        argv = ["/bin/sh", "-c", script.replace("$$", "$")]
        done = subprocess.run(argv, env=environ, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    shown = {restarts: waits(str(restarts)) for restarts in (0, 1, 2, 3, 4, 9, 10, 1000)}
    wanted = {0: "", 1: "1", 2: "2", 3: "4", 4: "8", 9: "256", 10: "256", 1000: "256"}
    assert shown == wanted
    assert waits("") == ""
