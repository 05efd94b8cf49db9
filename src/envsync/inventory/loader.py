"""From a file to an `Inventory`: finding, reading and validating it."""

from __future__ import annotations

import contextlib
import errno
import os
import shlex
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from envsync.errors import InventoryError
from envsync.inventory import ranges
from envsync.inventory.model import Environment, Inventory, Server, Watch
from envsync.inventory.ownership import who_else_wrote
from envsync.inventory.remembered import Remembered
from envsync.tree.sharing import Share

if TYPE_CHECKING:
    from envsync.inventory.schema import EnvironmentEntry, InventoryFile, ServerEntry, ShareEntry

MAX_FILE_BYTES = 1024 * 1024
SYSTEM_FILE = Path("/etc/envsync/config.yaml")


def find(
    explicit: Path | None,
    environ: Mapping[str, str],
    *,
    directory: Path = Path(),
    system_file: Path = SYSTEM_FILE,
) -> Path | None:
    """Return the path of the inventory, or None if there is none.

    The order is: `explicit`, `$ENVSYNC_CONFIG`, the current directory, the user's file, the
    system's. A path from the first two is returned whether the file exists or not. `envsync.yaml`
    in the current directory is refused (`InventoryError`) if somebody else could have put it there,
    because its checks are commands that run as the user.
    """
    named = explicit or environ.get("ENVSYNC_CONFIG")
    if named:
        return Path(named)
    here = directory / "envsync.yaml"
    if _is_there(here):
        _refuse_foreign(here)
        return here
    candidates = (*_user_files(environ), system_file)
    return next((path for path in candidates if _is_there(path)), None)


def misnamed(
    environ: Mapping[str, str], *, directory: Path = Path(), system_file: Path = SYSTEM_FILE
) -> list[Path]:
    """Return the files that would be inventories if their names ended with `.yaml`."""
    places = (directory / "envsync.yaml", *_user_files(environ), system_file)
    others = (path.with_suffix(".yml") for path in places)
    return [path for path in others if os.access(path, os.F_OK)]


def _is_there(path: Path) -> bool:
    """Return whether a file or directory is at `path`; nothing else is read, as a pipe could wait.

    Raises `InventoryError` if this cannot be found out, or for a dangling link: whoever made it did
    not mean another file to be used. Nobody made one in a directory whose own parent is closed.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        if path.is_symlink():
            raise _not_there(path) from None
        return False
    except PermissionError as error:
        with contextlib.suppress(PermissionError):
            path.parent.stat()
            raise _unreadable(path, error) from error
        return False
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return False
        raise _unreadable(path, error) from error
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode)


def _user_files(environ: Mapping[str, str]) -> Iterator[Path]:
    base = Path(environ.get("XDG_CONFIG_HOME", ""))
    if base.is_absolute():  # the XDG specification says to ignore a relative path
        yield base / "envsync" / "config.yaml"
    elif environ.get("HOME"):
        yield Path(environ["HOME"], ".config", "envsync", "config.yaml")


def _refuse_foreign(path: Path) -> None:
    reason = who_else_wrote(path.stat())
    if reason is not None:
        raise InventoryError(
            f"{path} {reason}, and its checks would run as you",
            hint=f"take that right away: chmod go-w {shlex.quote(str(path))}; or, if you trust it, "
            f"name it: --config {path}",
        )


def load(path: Path, environ: Mapping[str, str] | None = os.environ) -> Inventory:
    """Return the inventory in a file; content that was valid before is not validated again.

    `environ` gives the directory of the cache; with None, none is used. Raises an `InventoryError`
    whose message and details give every fault with file, line, key path and what was expected.
    """
    return load_content(path, read(path), environ)


def load_content(path: Path, content: bytes, environ: Mapping[str, str] | None) -> Inventory:
    """Return the inventory in the content of a file, as `load` does."""
    remembered = Remembered(content, environ)
    inventory = remembered.inventory(path)
    if inventory is None:
        inventory = _validated(path, _text(path, content))
        remembered.store(inventory)
    return inventory


def _validated(path: Path, text: str) -> Inventory:
    # Imported here because pydantic and yaml cost 0.2 s, which most commands need not pay.
    from envsync.inventory import document, references, schema
    from envsync.inventory.problems import inventory_error

    parsed = document.parse(text)
    problems = list(parsed.problems)
    if parsed.value is None:
        raise inventory_error(path, problems, parsed.locate)
    validated = schema.validate(parsed.value)
    of_values = [] if isinstance(validated, schema.InventoryFile) else validated
    for more in (references.misplaced(parsed), of_values, references.find_problems(parsed)):
        complained = {problem.path for problem in problems}
        problems += [problem for problem in more if problem.path not in complained]
    if isinstance(validated, schema.InventoryFile) and not problems:
        return _inventory(path, validated)
    raise inventory_error(path, problems, parsed.locate)


def read(path: Path) -> bytes:
    """Return the content of an inventory, valid or not. Raises `InventoryError` if it cannot be."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise _not_there(path) from None
    except OSError as error:
        raise _unreadable(path, error) from error
    if len(content) > MAX_FILE_BYTES:
        raise InventoryError(
            f"{path}: expected a file of at most 1 MiB",
            hint="is this the inventory? an entry with a range can give 1024 servers",
        )
    return content


def _unreadable(path: Path, error: OSError) -> InventoryError:
    return InventoryError(
        f"{path}: it cannot be read: {error.strerror}",
        hint="name a file that you can read: --config FILE",
    )


def _not_there(path: Path) -> InventoryError:
    if path.is_symlink():
        return InventoryError(
            f"{path}: it is a link to {path.readlink()}, which does not exist",
            hint="correct the link, or remove it",
        )
    named = "--config or $ENVSYNC_CONFIG names it: correct that"
    if str(path).startswith("~"):
        named += " (the shell does not expand this ~)"
    return InventoryError(
        f"{path}: there is no such file",
        hint=f"{named}, or write one (see config.example.yaml)",
    )


def _text(path: Path, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InventoryError(
            f"{path}:{line}: expected text in UTF-8", hint="have your editor save it as UTF-8"
        ) from error


def _inventory(path: Path, file: InventoryFile) -> Inventory:
    return Inventory(
        path=path,
        prefix=file.prefix,
        servers=tuple(
            server
            for key, entry in file.servers.items()
            for server in _servers(key, entry, file.prefix)
        ),
        environments=tuple(_environment(name, entry) for name, entry in file.environments.items()),
        watch=Watch(settle_seconds=file.watch.settle, rescan_seconds=file.watch.rescan),
    )


def _servers(key: str, entry: ServerEntry, prefix: str | None) -> Iterator[Server]:
    members = ranges.expand(key)
    hosts = members if entry.host is None else ranges.expand(entry.host)
    for name, host in zip(members, hosts, strict=True):
        yield Server(
            name=name,
            host=host,
            user=entry.user,
            port=entry.port,
            jump=entry.jump,
            identity_file=entry.identity_file,
            prefix=entry.prefix or prefix,
            groups=entry.groups,
            limit_bits_per_second=entry.limit,
            share=_share(entry.share),
        )


def _share(entry: ShareEntry | None) -> Share | None:
    return None if entry is None else Share(entry.group, entry.mode)


def _environment(name: str, entry: EnvironmentEntry) -> Environment:
    return Environment(
        name=name,
        source=entry.source,
        push_to=entry.push_to,
        method=entry.method,
        keep=entry.keep,
        check=entry.check,
        check_timeout_seconds=entry.check_timeout,
        in_use=entry.in_use,
        local=entry.local,
        outside=entry.outside,
        watch=entry.watch,
        share=_share(entry.share),
    )
