"""A cache of validated inventories by content, because validating one takes 0.2 s.

Each inventory is a file in the user's own cache directory, named by the digest of everything that
its meaning depends on: its content, and the version and files of the code that reads it. Nothing in
it depends on the home or the machine, so a cache that moves with its home, or that two machines
share, stays correct. A damaged file is ignored. So is one that somebody else could have written (in
a cache directory that several users share), because its checks would run as this user.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from envsync import __version__
from envsync.files.directories import cache_directory
from envsync.files.whole import whole_file
from envsync.inventory.model import Environment, Inventory, Server, Watch
from envsync.inventory.ownership import who_else_wrote
from envsync.tree.sharing import Share

_HERE = Path(__file__).parent
_KEPT_MAX = 8


class Remembered:
    """The cache entry for one content. Reading and writing never raise OSError."""

    def __init__(self, content: bytes, environ: Mapping[str, str] | None) -> None:
        """Find the cache by `environ`; None means no cache."""
        names = [field.name for kind in (Server, Environment, Watch) for field in fields(kind)]
        parts = [__version__, *_rules(), *names, *Share._fields, ""]
        key = hashlib.sha256("\0".join(parts).encode() + content)
        directory = None if environ is None else _directory(environ)
        self._file = None if directory is None else directory / key.hexdigest()

    def inventory(self, path: Path) -> Inventory | None:
        """Return the inventory with `path` as its path; None if the content is not in the cache."""
        if self._file is None:
            return None
        try:
            with self._file.open("rb") as file:
                if who_else_wrote(os.fstat(file.fileno())) is not None:
                    return None
                return replace(_inventory(json.loads(file.read())), path=path)
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None

    def store(self, inventory: Inventory) -> None:
        if self._file is None:
            return
        text = json.dumps(asdict(replace(inventory, path=None)), default=os.fspath)
        with contextlib.suppress(OSError):
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with whole_file(str(self._file)) as file:
                file.write(text.encode())
            _forget_oldest(self._file.parent)


def _rules() -> list[str]:
    """Return a fingerprint of the modules here, which decide what is valid.

    The version alone is not enough: it stays the same when a clone is updated. The ctime is
    included because some package managers give all files one mtime.
    """
    fingerprints = []
    with contextlib.suppress(OSError), os.scandir(_HERE) as entries:
        for entry in entries:
            if entry.name.endswith(".py"):
                status = entry.stat()
                times = f"{status.st_mtime_ns} {status.st_ctime_ns}"
                fingerprints.append(f"{entry.name} {status.st_size} {times}")
    return sorted(fingerprints)


def _directory(environ: Mapping[str, str]) -> Path | None:
    cache = cache_directory(environ)
    return None if cache is None else Path(cache, "inventory")


def _forget_oldest(directory: Path) -> None:
    known = sorted(directory.iterdir(), key=lambda path: path.stat().st_mtime_ns)
    for path in known[:-_KEPT_MAX]:
        path.unlink()


def _inventory(document: dict[str, Any]) -> Inventory:
    return Inventory(
        prefix=document["prefix"],
        servers=tuple(_server(fields) for fields in document["servers"]),
        environments=tuple(Environment(**_values(fields)) for fields in document["environments"]),
        watch=Watch(**document["watch"]),
    )


def _server(document: dict[str, Any]) -> Server:
    server = Server(**_values(document))
    file = server.identity_file
    return server if file is None else replace(server, identity_file=Path(file))


def _values(document: dict[str, Any]) -> dict[str, Any]:
    values = {
        name: tuple(value) if isinstance(value, list) else value for name, value in document.items()
    }
    share = values["share"]
    return {**values, "share": None if share is None else Share(*share)}
