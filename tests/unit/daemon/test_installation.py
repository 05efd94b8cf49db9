"""What `daemon install` does with a unit: written once, restarted where it has to be."""

from __future__ import annotations

from pathlib import Path

import pytest

from envsync.daemon.systemd import installation, units
from envsync.daemon.systemd.systemctl import Systemctl
from envsync.daemon.systemd.units import Account, ServiceSpec, Unit, user_unit

SERVICE = ServiceSpec(
    account=Account("alice", 1000, 1000, Path("/home/alice")),
    program=Path("/opt/envsync/bin/envsync"),
    inventory=Path("/home/alice/config.yaml"),
    own_name="server1",
    prefix=Path("/conda"),
)


class RunningService(Systemctl):
    """A systemd that has the service running, and does what it is told."""

    def __init__(self) -> None:
        super().__init__({}, of_user=True)

    def do(self, verb: str, *units: str) -> None:
        pass

    def property(self, unit: str, name: str) -> str:
        return {"ActiveState": "active", "LoadState": "loaded"}[name]


def install(unit: Unit) -> str:
    written = installation.write(unit)
    changed = any(file.changed for file in written)
    return installation.activate(RunningService(), unit, changed=changed)


def test_a_daemon_of_another_version_is_restarted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(user_unit(SERVICE, tmp_path, "server1"))
    assert install(user_unit(SERVICE, tmp_path, "server1")) == "running"
    monkeypatch.setattr(units, "__version__", "99.0")
    assert install(user_unit(SERVICE, tmp_path, "server1")) == "restarted"
    assert install(user_unit(SERVICE, tmp_path, "server1")) == "running"


def test_a_unit_that_somebody_edited_is_kept_beside_it(tmp_path: Path) -> None:
    unit = user_unit(SERVICE, tmp_path, "server1")
    shipped, drop_in, _ = unit.files
    assert [file.before for file in installation.write(unit)] == [None, None, None]
    edited = shipped.content + "Nice=5\n"
    shipped.path.write_text(edited)
    drop_in.path.write_text("# whoever reads its first line does not edit this one\n")
    kept = tmp_path / "envsync.service.before"
    assert [file.before for file in installation.write(unit)] == [kept, None, None]
    assert [file.before for file in installation.write(unit)] == [None, None, None]
    assert kept.read_text() == edited
    assert [file.path.read_text() for file in unit.files] == [file.content for file in unit.files]
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {
        "50-install.conf",
        "on-server1",
        "envsync.service",
        "envsync.service.before",
    }
