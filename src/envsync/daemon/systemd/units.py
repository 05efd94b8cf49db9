"""The service's units: the shipped files unchanged, and a drop-in with what differs here.

The unit itself is the same on every machine (it is in this package; the repository's `systemd/` has
links to it). The drop-in has what is specific to a machine and user: the program, the inventory,
and the paths that the service can write to.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from envsync import __version__
from envsync.errors import UsageError
from envsync.files.directories import cache_home, state_home

SYSTEM_DIRECTORY = Path("/etc/systemd/system")
DROP_IN = "50-install.conf"

_SHIPPED = Path(__file__).parent
_SYSTEM_TEMPLATE, USER_UNIT = "envsync@.service", "envsync.service"
_ACCOUNT_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]*\$?")
_TEMPORARY = (Path("/tmp"), Path("/var/tmp"))  # noqa: S108 - what PrivateTmp= replaces


@dataclass(frozen=True, slots=True)
class Account:
    """The user account that the service runs as."""

    name: str
    uid: int
    gid: int
    home: Path


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """What the service runs, as whom, and with which files. Paths are absolute.

    `own_name` is this machine's name in the inventory, None if its hostname gives it. `variables`
    are the user's environment variables that change where files are kept.
    `program_directories` contain the program's own files.
    """

    account: Account
    program: Path
    inventory: Path
    own_name: str | None
    prefix: Path
    variables: Mapping[str, str] = field(default_factory=dict)
    program_directories: tuple[Path, ...] = ()

    @property
    def arguments(self) -> tuple[str, ...]:
        """The program's arguments."""
        named = () if self.own_name is None else ("--as", self.own_name)
        return ("daemon", "--config", str(self.inventory), *named)

    @property
    def written_directories(self) -> tuple[Path, ...]:
        """The user's state and cache directories, below which the service keeps its own.

        A unit lists these and not the service's own directories, because what it lists becomes
        a mount point, which cannot be renamed or removed while the service runs.
        """
        environ = {**self.variables, "HOME": str(self.account.home)}
        homes = state_home(environ), cache_home(environ)
        return tuple(Path(home) for home in homes if home is not None)

    @property
    def linked_directories(self) -> tuple[Path, ...]:
        """The real paths of envsync's own directories that are outside those, behind symlinks."""
        linked = []
        for directory in self.written_directories:
            own = Path(os.path.realpath(directory / "envsync"))
            if not own.is_relative_to(os.path.realpath(directory)):
                linked.append(own)
        return tuple(linked)

    @property
    def _inventory_files(self) -> tuple[Path, ...]:
        """The inventory, and the file that it is a symlink to."""
        return (self.inventory, Path(os.path.realpath(self.inventory)))

    @property
    def has_bare_inventory(self) -> bool:
        """Whether the inventory is in /tmp or /var/tmp itself, which no service can be given."""
        return any(file.parent in _TEMPORARY for file in self._inventory_files)

    @property
    def temporary_directories(self) -> tuple[Path, ...]:
        """Directories of the program and the inventory that PrivateTmp= hides from a service."""
        needed = (*self.program_directories, *(file.parent for file in self._inventory_files))
        paths = list(filter(_is_temporary, dict.fromkeys(needed)))
        return tuple(path for path in paths if not any(other in path.parents for other in paths))


@dataclass(frozen=True, slots=True)
class UnitFile:
    """A file of a unit; `before` is where a replaced file is kept, None if it need not be."""

    path: Path
    content: str
    before: Path | None = None


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit's name, as `systemctl` takes it, and the files that it consists of."""

    name: str
    files: tuple[UnitFile, ...]


def system_unit(service: ServiceSpec) -> Unit:
    """Return `envsync@USER.service`; raises `UsageError` if a value cannot be part of a unit.

    That is also so for an inventory in /tmp itself, which PrivateTmp= hides.
    """
    if _ACCOUNT_NAME.fullmatch(service.account.name) is None:
        raise UsageError(
            f"the name {service.account.name!r} cannot be part of a unit's name",
            hint="install it without such a name: envsync daemon install --user",
        )
    if service.has_bare_inventory:
        raise UsageError(
            f"a system service has a /tmp of its own, and cannot see {service.inventory} there",
            hint=f"move it, for example to {service.account.home}/.config/envsync/config.yaml",
        )
    name = system_unit_name(service.account.name)
    linked = service.linked_directories
    mounts = _paths("", [service.account.home, service.prefix, *linked])
    writable = _paths("-", [*service.written_directories, *linked])
    lines = [
        *("[Unit]", f"RequiresMountsFor={mounts}", ""),
        *("[Service]", *_service_lines(service), f"ReadWritePaths={writable}"),
    ]
    if service.temporary_directories:
        lines.append(f"BindReadOnlyPaths={_paths('', service.temporary_directories)}")
    return _unit(name, _SYSTEM_TEMPLATE, SYSTEM_DIRECTORY, lines)


def system_unit_name(user: str) -> str:
    """Return the name of the system's unit for a user's daemon."""
    return f"envsync@{user}.service"


def user_unit(service: ServiceSpec, directory: Path, hostname: str) -> Unit:
    """Return `envsync.service` for the user's own systemd; may raise `UsageError`.

    Other machines that share the home find it, too. So it runs only where a file `on-HOSTNAME` is
    beside its drop-in, which has that machine's name in the inventory. The hostname's domain, which
    can come and go, does not count.
    """
    # systemd takes these paths as they are: it knows no quotes there. Old versions do not know %l,
    # the name without the domain; what is read last counts.
    this_machine = _specifier_free(f"{directory / USER_UNIT}.d/on-")
    either = this_machine + "%H", this_machine + "%l"
    lines = [
        *("[Unit]", *(f"ConditionPathExists=|{file}" for file in either), ""),
        *("[Service]", *_service_lines(replace(service, own_name=None))),
        *(f"EnvironmentFile=-{file}" for file in either),
    ]
    unit = _unit(USER_UNIT, USER_UNIT, directory, lines)
    # Empty is none, and overrides what the machine's other file has from an earlier installation.
    named = [f"ENVSYNC_SELF={service.own_name or ''}"]
    files = dict.fromkeys([machine_file(directory, hostname), _named_by(directory, hostname)])
    own = (UnitFile(file, "\n".join([_head(), *named, ""])) for file in files)
    return replace(unit, files=(*unit.files, *own))


def machine_file(directory: Path, hostname: str) -> Path:
    """Return the file without which the user's own unit does not run on a machine."""
    return _named_by(directory, hostname.partition(".")[0])


def _named_by(directory: Path, hostname: str) -> Path:
    return directory / f"{USER_UNIT}.d" / f"on-{hostname}"


def user_directory(home: Path, environ: Mapping[str, str]) -> Path:
    """Return the directory of the user's own units, by `$XDG_CONFIG_HOME` or `home`."""
    base = Path(environ.get("XDG_CONFIG_HOME", ""))
    return (base if base.is_absolute() else home / ".config") / "systemd" / "user"


def _is_temporary(path: Path) -> bool:
    return any(place in path.parents for place in _TEMPORARY)


def _unit(name: str, shipped: str, directory: Path, lines: Sequence[str]) -> Unit:
    drop_in = directory / f"{name}.d" / DROP_IN
    files = (
        UnitFile(
            directory / shipped,
            (_SHIPPED / shipped).read_text(encoding="utf-8"),
            # systemd ignores files with this suffix.
            before=directory / f"{shipped}.before",
        ),
        UnitFile(drop_in, "\n".join([_head(), *lines, ""])),
    )
    return Unit(name, files)


def _head() -> str:
    """Return the first line, which names the version.

    This makes the file differ after an upgrade, so that the running daemon is restarted.
    """
    return (
        f"# Written by envsync {__version__} (`daemon install`): "
        "run that again instead of editing this."
    )


def _service_lines(service: ServiceSpec) -> list[str]:
    command = [_word(str(service.program)), *map(_word, service.arguments)]
    variables = [
        f"Environment={_quoted(f'{name}={value}')}" for name, value in service.variables.items()
    ]
    # The empty ExecStart= clears the shipped unit's.
    return ["ExecStart=", f"ExecStart={' '.join(command)}", *variables]


def _paths(prefix: str, paths: Sequence[Path]) -> str:
    return " ".join(_quoted(f"{prefix}{path}") for path in dict.fromkeys(paths))


def _word(text: str) -> str:
    """Return one argument of a command line, in which systemd also expands variables."""
    return _quoted(text.replace("$", "$$"))


def _specifier_free(text: str) -> str:
    if not text.isprintable():
        raise UsageError(f"{text!r} cannot be written into a unit")
    return text.replace("%", "%%")


def _quoted(text: str) -> str:
    """Return `text` as a unit has to spell it: quoted if needed, with `%` doubled."""
    text = _specifier_free(text)
    if re.search(r"[\s\"'\\;]", text) is None:
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
