"""The units of this user's daemon that systemd knows: which one runs it, and which one fails."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from envsync.agent.server.accounts import user_name
from envsync.daemon.systemd.systemctl import Systemctl
from envsync.daemon.systemd.units import USER_UNIT, system_unit_name
from envsync.errors import EnvsyncError


class KnownUnit(NamedTuple):
    """A unit of the system's systemd, or `of_user`, of the user's own."""

    name: str
    of_user: bool

    def command(self, *arguments: str) -> str:
        """Return the `systemctl` command with these arguments for this unit."""
        return Systemctl({}, of_user=self.of_user).shown(*arguments, self.name)

    @property
    def trouble(self) -> str:
        """That it cannot be started, and the command that says why."""
        why = self.command("status").removeprefix("sudo ")
        return f"systemd cannot start {self.name}; see why: {why}"


def unit_of(pid: int, proc: Path = Path("/proc")) -> KnownUnit | None:
    """Return the service that a process belongs to, as its control group tells; None if none."""
    try:
        lines = (proc / str(pid) / "cgroup").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        path = line.rpartition(":")[2]
        name = path.rpartition("/")[2]
        if name.startswith("envsync") and name.endswith(".service"):
            return KnownUnit(name, "/user@" in path)
    return None


def failing_unit(environ: Mapping[str, str], user: str) -> KnownUnit | None:
    """Return the unit that should run the user's daemon, and that systemd cannot start."""
    for unit in (KnownUnit(system_unit_name(user), False), KnownUnit(USER_UNIT, True)):
        systemctl = Systemctl(environ, of_user=unit.of_user)
        with contextlib.suppress(EnvsyncError):  # there is no systemd, or it does not answer
            if systemctl.runs() and _is_failing(systemctl, unit.name):
                return unit
    return None


def service_trouble(environ: Mapping[str, str]) -> str:
    """Return why no daemon of this user runs, if systemd cannot start it; else empty."""
    unit = failing_unit(environ, user_name())
    return "" if unit is None else unit.trouble


def _is_failing(systemctl: Systemctl, unit: str) -> bool:
    """Return whether a unit has failed, also if it is being started again since."""
    state = systemctl.property(unit, "ActiveState")
    if state != "activating":
        return state == "failed"
    # The first failure is not counted before the next start.
    is_next = systemctl.property(unit, "SubState") == "auto-restart"
    return is_next or systemctl.property(unit, "NRestarts") not in ("", "0")
