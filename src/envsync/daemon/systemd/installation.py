"""Installs a unit and lets systemd run it; installing the same unit again changes nothing."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from envsync.daemon.systemd.systemctl import Systemctl
from envsync.daemon.systemd.units import Unit, UnitFile
from envsync.errors import StorageFailed
from envsync.files.whole import whole_file

_FILE_MODE, _DIRECTORY_MODE = 0o644, 0o755


@dataclass(frozen=True, slots=True)
class Written:
    """A unit file after `write`; `before` is the copy of the replaced file, None if none."""

    path: Path
    changed: bool
    before: Path | None


def write(unit: Unit) -> tuple[Written, ...]:
    """Write every file of the unit that differs, each whole or not at all."""
    return tuple(_write(file) for file in unit.files)


def differs(file: UnitFile) -> bool:
    """Return whether the file is missing or has other content."""
    try:
        return file.path.read_text(encoding="utf-8") != file.content
    except (OSError, UnicodeDecodeError):
        return True


def activate(systemctl: Systemctl, unit: Unit, *, changed: bool) -> str:
    """Run the unit now and after each boot; return `started`, `restarted` or `running`.

    A running service is restarted only if its files have `changed`.
    """
    systemctl.do("daemon-reload")
    systemctl.do("enable", unit.name)
    is_active = systemctl.property(unit.name, "ActiveState") == "active"
    if is_active and not changed:
        return "running"
    if systemctl.property(unit.name, "LoadState") == "loaded":
        # Otherwise earlier failures would still be counted, and delay the start.
        systemctl.do("reset-failed", unit.name)
    systemctl.do("restart", unit.name)
    return "restarted" if is_active else "started"


def _write(file: UnitFile) -> Written:
    if not differs(file):
        return Written(file.path, changed=False, before=None)
    try:
        _make_directory(file.path.parent)
        before = _keep_before(file)
        _put(file.path, file.content.encode())
    except OSError as error:
        raise StorageFailed(
            f"{file.path} cannot be written: {error.strerror}",
            hint="see its content: envsync daemon install --dry-run",
        ) from error
    return Written(file.path, changed=True, before=before)


def _keep_before(file: UnitFile) -> Path | None:
    """Copy the file that is about to be replaced, because somebody may have edited it.

    Returns the path of the copy; None if no copy is wanted or there is nothing to keep.
    """
    if file.before is None:
        return None
    try:
        content = file.path.read_bytes()
    except FileNotFoundError:
        return None
    if not content:
        return None
    _put(file.before, content)
    return file.before


def _put(path: Path, content: bytes) -> None:
    with whole_file(str(path), sync=True) as stream:
        os.fchmod(stream.fileno(), _FILE_MODE)
        stream.write(content)


def _make_directory(directory: Path) -> None:
    """Create a directory that systemd can read, whatever the umask is."""
    missing = [path for path in (directory, *directory.parents) if not path.exists()]
    for path in reversed(missing):
        path.mkdir(mode=_DIRECTORY_MODE)
        path.chmod(_DIRECTORY_MODE)
