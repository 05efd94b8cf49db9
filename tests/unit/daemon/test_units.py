"""What `envsync daemon install` writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from envsync.daemon.units import Account, Service, system_unit, user_directory, user_unit
from envsync.errors import UsageError

ALICE = Account("alice", 1000, 1000, Path("/home/alice"))
SERVICE = Service(
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


def test_the_user_unit_names_no_path_but_the_program_and_the_inventory(tmp_path: Path) -> None:
    unit = user_unit(SERVICE, tmp_path)
    shipped, drop_in = unit.files
    assert unit.name == "envsync.service"
    assert shipped.path == tmp_path / "envsync.service"
    assert shipped.content == (REPOSITORY / "systemd/user/envsync.service").read_text()
    assert [line.partition("=")[0] for line in drop_in.content.splitlines()[1:]] == [
        "[Service]",
        "ExecStart",
        "ExecStart",
    ]


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
    service = Service(ALICE, Path(path), Path("/i.yaml"), None, Path("/p"))
    lines = system_unit(service).files[1].content.splitlines()
    assert f"ExecStart={written} daemon --config /i.yaml" in lines


def test_the_users_own_places_are_kept() -> None:
    variables = {"XDG_STATE_HOME": "/data/state", "XDG_CACHE_HOME": "relative"}
    service = Service(ALICE, Path("/e"), Path("/i"), None, Path("/p"), variables)
    content = system_unit(service).files[1].content
    assert "Environment=XDG_STATE_HOME=/data/state\n" in content
    assert "ReadWritePaths=-/data/state -/home/alice/.cache\n" in content


def test_what_no_unit_can_say_is_refused() -> None:
    bad_name = Account("LAB\\alice", 1, 1, Path("/h"))
    with pytest.raises(UsageError):
        system_unit(Service(bad_name, Path("/e"), Path("/i"), None, Path("/p")))
    with pytest.raises(UsageError):
        system_unit(Service(ALICE, Path("/e\nUser=root"), Path("/i"), None, Path("/p")))


@pytest.mark.parametrize(
    ("environ", "directory"),
    [
        ({}, "/home/alice/.config/systemd/user"),
        ({"XDG_CONFIG_HOME": "/c"}, "/c/systemd/user"),
        ({"XDG_CONFIG_HOME": "c"}, "/home/alice/.config/systemd/user"),
    ],
)
def test_where_user_units_are(environ: dict[str, str], directory: str) -> None:
    assert str(user_directory(ALICE.home, environ)) == directory
