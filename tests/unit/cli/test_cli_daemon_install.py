"""`envsync daemon install`, as far as that needs no systemd."""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path

import pytest

from envsync.cli.daemon import service_plan, service_trial
from envsync.cli.daemon.service_plan import ServicePlan
from envsync.cli.daemon.service_trial import trial
from envsync.daemon.systemd import units
from envsync.daemon.systemd.systemctl import Systemctl
from envsync.daemon.systemd.units import Account, ServiceSpec, Unit, UnitFile
from envsync.errors import ServiceFailed
from envsync.files import directories
from envsync.inventory import Server
from tests.support.command_line import Envsync


def test_install_leaves_no_inventory_in_the_users_cache(
    envsync: Envsync, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is root who runs it, and what root leaves in the user's cache bars the user there."""
    home, file = tmp_path / "account", tmp_path / "config.yaml"
    monkeypatch.setattr(directories, "home", lambda _: str(home))
    file.write_text(f"prefix: {tmp_path}\nservers: {{here: {{}}}}\n")
    ended = envsync("daemon", "install", "--dry-run", "--config", str(file), "--as", "here")
    assert f"envsync: {file}" not in ended.err
    assert not home.exists()


def test_empty_own_name_is_refused_as_an_option_but_not_as_a_variable(
    envsync: Envsync, tmp_path: Path
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(f"prefix: {tmp_path}\nservers: {{server2: {{}}}}\n")
    install = ("daemon", "install", "--dry-run", "--config", str(file))
    assert "expected a server name" in envsync(*install, "--as", "", ENVSYNC_SELF="server2").err
    assert f"its hostname is {socket.gethostname()!r}" in envsync(*install, ENVSYNC_SELF="").err


def service_of(tmp_path: Path) -> ServiceSpec:
    account = Account("alice", os.geteuid(), os.getegid(), tmp_path)
    return ServiceSpec(account, tmp_path / "envsync", tmp_path / "lab.yaml", "here", tmp_path)


def test_a_service_that_could_not_work_replaces_none(
    envsync: Envsync, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here the user of the service cannot read the inventory."""
    service, old = service_of(tmp_path), tmp_path / "50-install.conf"
    old.write_text("the one that works")
    error = {"code": "inventory-invalid", "message": "lab.yaml: it cannot be read", "hint": ""}
    document = json.dumps({"result": None, "error": error})
    service.program.write_text(f"#!/bin/sh\necho '{document}'\n")
    service.program.chmod(0o755)
    unit = Unit("envsync.service", (UnitFile(old, "the new one"),))
    plan = ServicePlan(service, unit, "here", (), Systemctl({}, of_user=True))
    monkeypatch.setattr(service_plan, "find", lambda *_, **__: plan)
    ended = envsync("daemon", "install", "--user")
    assert ended.err == "envsync: as alice: lab.yaml: it cannot be read\n"
    assert old.read_text() == "the one that works"


def test_dry_run_shows_the_lines_of_a_unit_as_they_would_be_written(
    envsync: Envsync, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = (
        f"ExecStart={tmp_path}/envsync --config {tmp_path}/lab.yaml daemon --as here " + "x " * 60
    )
    service = service_of(tmp_path)
    service.program.write_text("#!/bin/sh\nexit 1\n")
    service.program.chmod(0o755)
    unit = Unit("envsync.service", (UnitFile(tmp_path / "unit", f"[Service]\n{line}"),))
    plan = ServicePlan(service, unit, "here", (), Systemctl({}, of_user=True))
    monkeypatch.setattr(service_plan, "find", lambda *_, **__: plan)
    monkeypatch.setattr(service_trial, "trial", lambda *_: [])
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    shown = envsync("daemon", "install", "--dry-run", COLUMNS="60").out
    assert f"  [Service]\n  {line}\n" in shown


def test_unit_of_the_other_systemd_that_is_enabled_is_named(
    envsync: Envsync, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the next boot one of them would be started again and again."""
    monkeypatch.setattr(units, "SYSTEM_DIRECTORY", tmp_path / "system")
    monkeypatch.setattr(service_trial, "trial", lambda *_: [])
    monkeypatch.setattr(Systemctl, "runs", lambda _: False)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    service, unit = service_of(tmp_path), Unit("any", ())
    for of_user, path, command in (
        (False, ".config/systemd/user/default.target.wants/envsync.service",
         "as alice: systemctl --user disable envsync.service"),
        (True, "system/multi-user.target.wants/envsync@alice.service",
         "sudo systemctl disable envsync@alice.service"),
    ):  # fmt: skip
        plan = ServicePlan(service, unit, "here", (), Systemctl({}, of_user=of_user))
        assert plan.rival() is None
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).symlink_to("/etc/systemd/system/unit")
        if not of_user:
            assert plan.rival() is None  # another machine's, which shares the home
            own = units.machine_file(units.user_directory(tmp_path, {}), socket.gethostname())
            own.parent.mkdir()
            own.touch()
        rival = plan.rival()
        assert rival is not None
        assert plan.disabling(rival) == command
        monkeypatch.setattr(service_plan, "find", lambda *_, plan=plan, **__: plan)
        told = envsync("daemon", "install").err
        assert (
            f"{rival.name} is enabled, too, but only one of both can run\n  → {command}\n" in told
        )


def test_unit_of_a_user_is_taken_for_disabled_if_root_cannot_look_for_it(tmp_path: Path) -> None:
    """On NFS, a home can be closed to root; here it has a name that no directory can have."""
    service = service_of(tmp_path / ("x" * 300))
    plan = ServicePlan(service, Unit("any", ()), "here", (), Systemctl({}, of_user=False))
    assert plan.rival() is None


def test_hint_names_both_ways_to_install_with_the_options_that_were_given(
    envsync: Envsync, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unit, systemctl = Unit("envsync@alice.service", ()), Systemctl({}, of_user=False)
    plan = ServicePlan(service_of(tmp_path), unit, "here", (), systemctl)
    monkeypatch.setattr(service_plan, "find", lambda *_, **__: plan)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    hint = envsync("daemon", "install").err.splitlines()[-1]
    assert hint == (
        "  → without root, the same with --user instead of sudo; with root: "
        f"sudo {tmp_path}/envsync daemon install --config {tmp_path}/lab.yaml --as here"
    )


def test_program_that_fails_for_the_service_is_reported_with_its_output(
    tmp_path: Path,
) -> None:
    """As it does where the service's user cannot read its modules."""
    program = tmp_path / "envsync"
    program.write_text("#!/bin/sh\nprintf 'Caf\\351\\nNo module named envsync\\n' >&2; exit 1\n")
    program.chmod(0o755)
    with pytest.raises(ServiceFailed) as raised:
        trial(service_of(tmp_path), "here", [Server("server2", "server2")])
    assert raised.value.message == f"{program} cannot be run as alice: exit status 1"
    assert raised.value.details == ("Caf\\xe9", "No module named envsync")
