"""The units of the service: the shipped files as they are, and beside them what differs here.

The unit itself is the same on every machine (here, and in the `systemd/` of the
repository). What belongs to one machine and one user is in a drop-in: the program, the
inventory, the paths that the service may write to.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from envsync import __version__
from envsync.errors import UsageError
from envsync.files.directories import cache_home, state_home

_SYSTEM_DIRECTORY = Path("/etc/systemd/system")
DROP_IN = "50-install.conf"

_SHIPPED = Path(__file__).parent
_SYSTEM_TEMPLATE, _USER_UNIT = "envsync@.service", "envsync.service"
_ACCOUNT_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]*\$?")
_TEMPORARY = (Path("/tmp"), Path("/var/tmp"))  # noqa: S108 - what PrivateTmp= replaces


@dataclass(frozen=True, slots=True)
class Account:
    """Whom the service runs as."""

    name: str
    uid: int
    gid: int
    home: Path


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """What is to be run, for whom, and on what. Paths are absolute.

    `own_name` is the server that this machine is, None where its hostname says so;
    `variables` are those of the user's own that change where things are kept;
    `program_directories` is where the program's own files are.
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
        """What the program is called with, without the program."""
        named = () if self.own_name is None else ("--as", self.own_name)
        return ("daemon", "--config", str(self.inventory), *named)

    @property
    def written_directories(self) -> tuple[Path, ...]:
        """Below which the service keeps things: state, cache.

        Not the directories themselves: what a unit lists becomes a mount point, which can
        neither be renamed nor removed while the service runs.
        """
        environ = {**self.variables, "HOME": str(self.account.home)}
        found = state_home(environ), cache_home(environ)
        return tuple(Path(path) for path in found if path is not None)

    @property
    def linked_directories(self) -> tuple[Path, ...]:
        """Where envsync's own directories really are, as far as links lead them elsewhere."""
        found = []
        for directory in self.written_directories:
            own = Path(os.path.realpath(directory / "envsync"))
            if not own.is_relative_to(os.path.realpath(directory)):
                found.append(own)
        return tuple(found)

    @property
    def temporary_directories(self) -> tuple[Path, ...]:
        """Those of the program that are in a place of which the service has one of its own."""
        found = [
            path
            for path in self.program_directories
            if any(path.is_relative_to(place) for place in _TEMPORARY)
        ]
        return tuple(path for path in found if not any(one in path.parents for one in found))


@dataclass(frozen=True, slots=True)
class UnitFile:
    """`before` is where what stood there is kept, None where nobody has a say in it but us."""

    path: Path
    content: str
    before: Path | None = None


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit by the name that `systemctl` takes, and the files that it is made of."""

    name: str
    files: tuple[UnitFile, ...]


def system_unit(service: ServiceSpec) -> Unit:
    """`envsync@USER.service`; raises `UsageError` for what no unit can say."""
    if _ACCOUNT_NAME.fullmatch(service.account.name) is None:
        raise UsageError(
            f"the name {service.account.name!r} cannot be part of a unit's name",
            hint="envsync daemon install --user   needs no such name",
        )
    name = f"envsync@{service.account.name}.service"
    linked = service.linked_directories
    mounts = _paths("", [service.account.home, service.prefix, *linked])
    writable = _paths("-", [*service.written_directories, *linked])
    lines = [
        *("[Unit]", f"RequiresMountsFor={mounts}", ""),
        *("[Service]", *_service_lines(service), f"ReadWritePaths={writable}"),
    ]
    if service.temporary_directories:
        lines.append(f"BindReadOnlyPaths={_paths('', service.temporary_directories)}")
    return _unit(name, _SYSTEM_TEMPLATE, _SYSTEM_DIRECTORY, lines)


def user_unit(service: ServiceSpec, directory: Path) -> Unit:
    """`envsync.service` of the user's own systemd."""
    return _unit(_USER_UNIT, _USER_UNIT, directory, ["[Service]", *_service_lines(service)])


def user_directory(home: Path, environ: Mapping[str, str]) -> Path:
    """Where the user's own units are."""
    base = Path(environ.get("XDG_CONFIG_HOME", ""))
    return (base if base.is_absolute() else home / ".config") / "systemd" / "user"


def _unit(name: str, shipped: str, directory: Path, lines: Sequence[str]) -> Unit:
    drop_in = directory / f"{name}.d" / DROP_IN
    files = (
        UnitFile(
            directory / shipped,
            (_SHIPPED / shipped).read_text(encoding="utf-8"),
            # systemd reads nothing that is called so.
            before=directory / f"{shipped}.before",
        ),
        UnitFile(drop_in, "\n".join([_head(), *lines, ""])),
    )
    return Unit(name, files)


def _head() -> str:
    """Names the version: after an upgrade the file differs, so the old daemon is restarted."""
    return (
        f"# Written by `envsync daemon install` of envsync {__version__}: "
        "run that again instead of editing this."
    )


def _service_lines(service: ServiceSpec) -> list[str]:
    command = [_word(str(service.program)), *map(_word, service.arguments)]
    variables = [
        f"Environment={_quoted(f'{name}={value}')}" for name, value in service.variables.items()
    ]
    # The empty one takes back the shipped unit's.
    return ["ExecStart=", f"ExecStart={' '.join(command)}", *variables]


def _paths(prefix: str, paths: Sequence[Path]) -> str:
    return " ".join(_quoted(f"{prefix}{path}") for path in dict.fromkeys(paths))


def _word(text: str) -> str:
    """One argument of a command line; systemd replaces variables there, too."""
    return _quoted(text.replace("$", "$$"))


def _quoted(text: str) -> str:
    """As systemd reads it back: quotes where needed, and `%` is a specifier's beginning."""
    if not text.isprintable():
        raise UsageError(f"{text!r} cannot be written into a unit")
    text = text.replace("%", "%%")
    if re.search(r"[\s\"'\\;]", text) is None:
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
