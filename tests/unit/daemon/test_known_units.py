"""Which of systemd's units runs a daemon, and who has the daemon's lock."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from envsync.daemon.paths import DaemonPaths
from envsync.daemon.systemd.known_units import KnownUnit, failing_unit, unit_of


@pytest.mark.parametrize(
    ("groups", "unit"),
    [
        (
            "0::/system.slice/system-envsync.slice/envsync@alice.service",
            KnownUnit("envsync@alice.service", False),
        ),
        (
            "12:pids:/x\n0::/user.slice/user-7.slice/user@7.service/app.slice/envsync.service",
            KnownUnit("envsync.service", True),
        ),
        ("0::/user.slice/user-7.slice/session-3.scope", None),
        ("0::/system.slice/ssh.service", None),
        ("", None),
    ],
)
def test_the_unit_of_a_process(groups: str, unit: KnownUnit | None, tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7/cgroup").write_text(f"{groups}\n")
    assert unit_of(7, tmp_path) == unit
    assert unit_of(8, tmp_path) is None


def test_a_command_for_a_unit() -> None:
    system, own = KnownUnit("envsync@alice.service", False), KnownUnit("envsync.service", True)
    assert system.command("disable", "--now") == (
        "sudo systemctl disable --now envsync@alice.service"
    )
    assert own.trouble == (
        "systemd cannot start envsync.service; see why: systemctl --user status envsync.service"
    )


@pytest.mark.parametrize(
    ("active", "sub", "restarts", "is_failing"),
    [
        ("failed", "failed", "0", True),
        ("activating", "auto-restart", "0", True),
        # In the wait before the next start, where it is nearly always.
        ("activating", "start-pre", "7", True),
        ("activating", "start", "0", False),
        ("active", "running", "7", False),
        ("inactive", "dead", "0", False),
    ],
)
def test_a_unit_that_systemd_starts_in_vain(
    tmp_path: Path, active: str, sub: str, restarts: str, is_failing: bool
) -> None:
    told = {"ActiveState": active, "SubState": sub, "NRestarts": restarts}
    cases = "".join(
        f"'--user show --property={name} --value envsync.service') echo {value};;\n"
        for name, value in told.items()
    )
    systemctl = tmp_path / "systemctl"
    systemctl.write_text(f'#!/bin/sh\ncase "$*" in\n{cases}esac\n')
    systemctl.chmod(0o755)
    found = failing_unit({"PATH": str(tmp_path)}, "alice")
    assert found == (KnownUnit("envsync.service", True) if is_failing else None)


def test_the_process_that_has_the_lock(tmp_path: Path) -> None:
    paths = DaemonPaths(tmp_path / "state", tmp_path)
    assert paths.running_pid() is None
    fd = paths.lock()
    assert paths.running_pid() == os.getpid()
    os.close(fd)
    assert paths.running_pid() is None
