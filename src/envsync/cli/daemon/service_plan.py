"""The plan of `envsync daemon install`: the account, the unit's files, the servers."""

from __future__ import annotations

import os
import pwd
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from envsync.cli.daemon.service_trial import CLOSED_PATH, process_options
from envsync.cli.invocation.invocation import Invocation
from envsync.cli.invocation.site import Site
from envsync.daemon.assignments import find_assignments
from envsync.daemon.inventory_file import required_file
from envsync.daemon.paths import DaemonPaths
from envsync.daemon.systemd import units
from envsync.daemon.systemd.known_units import KnownUnit, unit_of
from envsync.daemon.systemd.systemctl import Systemctl
from envsync.daemon.systemd.units import Account, ServiceSpec, Unit
from envsync.errors import Locked, StorageFailed, UsageError
from envsync.inventory import Server, load

_KEPT_VARIABLES = ("XDG_STATE_HOME", "XDG_CACHE_HOME")


@dataclass(frozen=True, slots=True)
class ServicePlan:
    """A plan made by `find`; nothing has been changed yet."""

    service: ServiceSpec
    unit: Unit
    own_name: str
    targets: tuple[Server, ...]
    systemctl: Systemctl

    @property
    def may_write(self) -> bool:
        return self.systemctl.of_user or os.geteuid() == 0

    @property
    def sudo_line(self) -> str:
        service = self.service
        words = [service.program, "daemon", "install", "--config", service.inventory]
        if service.own_name is not None:
            words += ["--as", service.own_name]
        return "sudo " + shlex.join(str(word) for word in words)

    def make_directories(self) -> None:
        """Make the directories that the unit opens for writing, owned by the user."""
        for directory in self.service.written_directories:
            argv = ["mkdir", "-p", "-m", "700", str(directory)]
            options = process_options(self.service)
            done = subprocess.run(argv, capture_output=True, text=True, check=False, **options)
            if done.returncode != 0:
                message = done.stderr.strip().rpartition(": ")[2]
                raise StorageFailed(f"{directory} cannot be made: {message}")

    def other_daemon(self) -> Locked | None:
        """Return the error if another daemon of the account runs: the service would not start."""
        environ = {**self.service.variables, "HOME": str(self.service.account.home)}
        pid = DaemonPaths.of(environ, socket.gethostname()).running_pid()
        if pid is None:
            return None
        running = unit_of(pid)
        if running == KnownUnit(self.unit.name, self.systemctl.of_user):
            return None
        # Its number is unknown if the disk was full when it started.
        which = running.name if running else f"process {pid or 'unknown'}"
        end = self.disabling(running, "--now") if running else f"kill {pid or 'PID'}"
        return Locked(
            f"a daemon of {self.service.account.name} runs already as {which}",
            hint=f"end it, then run this again: {end}",
        )

    def rival(self) -> KnownUnit | None:
        """Return the account's unit in the other systemd if that starts it, too; else None."""
        account = self.service.account
        if self.systemctl.of_user:
            unit = KnownUnit(units.system_unit_name(account.name), False)
            link = units.SYSTEM_DIRECTORY / "multi-user.target.wants" / unit.name
            runs_here = link
        else:
            unit = KnownUnit(units.USER_UNIT, True)
            directory = units.user_directory(account.home, {})
            link = directory / "default.target.wants" / unit.name
            runs_here = units.machine_file(directory, socket.gethostname())
        try:
            return unit if link.is_symlink() and os.path.lexists(runs_here) else None
        except OSError:  # the user's home is closed to root
            return None

    def disabling(self, unit: KnownUnit, *options: str) -> str:
        """Return the command that disables a unit, with who has to run it if root cannot."""
        command = unit.command("disable", *options)
        is_for_another = unit.of_user and not self.systemctl.of_user
        return f"as {self.service.account.name}: {command}" if is_for_another else command

    def lingers(self) -> bool:
        """Return whether the user's systemd runs without a login."""
        argv = ["loginctl", "show-user", self.service.account.name, "--property=Linger", "--value"]
        try:
            done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return False
        return done.stdout.strip() == "yes"


def find(invocation: Invocation, *, of_user: bool, as_name: str | None) -> ServicePlan:
    """Return the plan, or raise what is wrong with it, before anything is changed."""
    if of_user and os.geteuid() == 0:
        raise UsageError(
            "root's own systemd would run it as root, and envsync needs no root",
            hint="run it as the user who owns the environments; or without --user",
        )
    environ = _user_environ(invocation.environ)
    path = required_file(invocation.config, environ)
    # Without the cache: under sudo, root's files would be left in the user's cache.
    inventory = load(path, None)
    given = environ.get("ENVSYNC_SELF") or None if as_name is None else as_name
    # The shell's active conda is left out: the service starts without it.
    site = Site.here(inventory, given, {"HOME": environ.get("HOME", "")})
    assignments = find_assignments(inventory, site.own, site.hostname)
    service = ServiceSpec(
        account=_account(site.own_prefix),
        program=_program(),
        inventory=path,
        own_name=given,
        prefix=Path(site.own_prefix),
        variables={name: environ[name] for name in _KEPT_VARIABLES if _is_path(environ.get(name))},
        program_directories=_program_directories(),
    )
    if of_user:
        directory = units.user_directory(service.account.home, environ)
        unit = units.user_unit(service, directory, socket.gethostname())
    else:
        unit = units.system_unit(service)
    systemctl = Systemctl(invocation.environ, of_user=of_user)
    targets = tuple(map(inventory.server, assignments.servers))
    return ServicePlan(service, unit, assignments.own, targets, systemctl)


def _user_environ(environ: Mapping[str, str]) -> Mapping[str, str]:
    """Return the environment variables by which the user's files are found, also under `sudo`."""
    sudoer = environ.get("SUDO_USER", "")
    if os.geteuid() != 0 or sudoer in ("", "root"):
        return environ
    try:
        home = pwd.getpwnam(sudoer).pw_dir
    except KeyError:
        return environ
    others = {name: value for name, value in environ.items() if not name.startswith("XDG_")}
    return {**others, "HOME": home}


def _account(prefix: str) -> Account:
    """Return the account to run the service as.

    That is the user who runs the command, also with `sudo`, else the owner of the environments.
    """
    uid = os.geteuid() or int(os.environ.get("SUDO_UID") or 0) or _owner(f"{prefix}/envs")
    if uid == 0:
        raise UsageError(
            "the service runs as the user who owns the environments, and never as root",
            hint="log in as that user, and run `sudo envsync daemon install` there",
        )
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        raise UsageError(f"there is no user with the number {uid}") from None
    return Account(entry.pw_name, uid, entry.pw_gid, Path(entry.pw_dir))


def _owner(path: str) -> int:
    try:
        return os.stat(path).st_uid  # noqa: PTH116 - a number, and no Path
    except OSError:
        return 0


def _program() -> Path:
    """Return the path of the `envsync` command beside this Python, else of the one on the PATH."""
    beside = Path(sys.executable).with_name("envsync")
    if beside.is_file():
        return beside
    program = shutil.which("envsync", path=os.environ.get("PATH", CLOSED_PATH))
    if program is None:
        raise UsageError("the `envsync` command is not beside its Python, nor on the PATH")
    return Path(program).absolute()


def _program_directories() -> tuple[Path, ...]:
    """Return the directories of this program, its interpreter and its modules."""
    paths = (Path(path) for path in (sys.prefix, sys.base_prefix, *sys.path))
    return tuple(dict.fromkeys(path for path in paths if path.is_absolute() and path.is_dir()))


def _is_path(value: str | None) -> bool:
    return value is not None and Path(value).is_absolute()
