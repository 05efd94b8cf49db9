"""A conda prefix that is made once per machine and can be copied to any path in 0.2 s.

The template is a real installation at a path of 100 characters in the user's cache directory. A
copy has its own inodes (because tests can write in place) with the same hard links among them.
Wherever rattler wrote the template's path, the copy has its own prefix, and conda-meta's hashes
are updated.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conda.environments import build_channel, create_base, create_environment
from tests.conda.user_files import add_user_files

ENVIRONMENT = "myenv"
# With a longer prefix, shebangs would have another form.
_PREFIX_LENGTH = 100
_KEPT = 3


@dataclass(frozen=True, slots=True)
class CondaPrefix:
    """A conda installation with base and the environment `myenv`."""

    path: Path
    channel: Path

    def environment(self, name: str = ENVIRONMENT) -> Path:
        return self.path / "envs" / name

    def python(self, name: str = ENVIRONMENT) -> Path:
        return self.environment(name) / "bin" / "python"


@dataclass(frozen=True, slots=True)
class Template:
    prefix: Path
    channel: Path
    mentions: Sequence[bytes]
    """The relative paths of files and symlinks that name the prefix."""

    def copy(
        self, directory: Path, *, prefix: Path | None = None, environments: bool = True
    ) -> CondaPrefix:
        """Copy into `directory`, to be used at the path `prefix` (default: the directory itself).

        With `environments=False` it is a bare installation: base with empty `envs` and `pkgs`.
        """
        directory.mkdir(parents=True, exist_ok=True)
        names = [path.name for path in self.prefix.iterdir()]
        if not environments:
            names = [name for name in names if name not in ("envs", "pkgs")]
        sources = [self.prefix / name for name in names]
        subprocess.run(["cp", "-a", "--", *sources, directory], check=True)
        for name in ("envs", "pkgs"):
            (directory / name).mkdir(exist_ok=True)
        self._rewrite(directory, os.fsencode(prefix or directory))
        return CondaPrefix(prefix or directory, self.channel)

    def at(self, directory: Path, prefix: Path) -> Template:
        """Make a template in `directory` for one prefix only; copying it rewrites nothing."""
        self.copy(directory, prefix=prefix)
        return Template(directory, self.channel, mentions=())

    def _rewrite(self, directory: Path, new: bytes) -> None:
        if len(new) > _PREFIX_LENGTH:
            raise ValueError(f"a prefix of more than {_PREFIX_LENGTH} characters: {new!r}")
        old = os.fsencode(self.prefix)
        root = os.fsencode(directory)
        hashes: dict[bytes, tuple[str, int]] = {}
        records = []
        for relative in self.mentions:
            path = os.path.join(root, relative)
            if os.path.islink(path):
                target = os.readlink(path).replace(old, new)
                os.unlink(path)
                os.symlink(target, path)
            elif os.path.exists(path):
                data = _replaced(Path(os.fsdecode(path)).read_bytes(), old, new)
                _write_anew(path, data)
                hashes[path] = (hashlib.sha256(data).hexdigest(), len(data))
                if b"/conda-meta/" in path and path.endswith(b".json"):
                    records.append(path)
        for path in records:
            _update_record(path, hashes)


def _replaced(data: bytes, old: bytes, new: bytes) -> bytes:
    if b"\0" not in data:
        return data.replace(old, new)

    def padded(match: re.Match[bytes]) -> bytes:
        return (new + match[1]).ljust(len(match[0]) - 1, b"\0") + b"\0"

    return re.sub(re.escape(old) + rb"([^\0]*)\0", padded, data)


def _write_anew(path: bytes, data: bytes) -> None:
    status = os.stat(path)
    os.unlink(path)
    Path(os.fsdecode(path)).write_bytes(data)
    os.chmod(path, status.st_mode & 0o7777)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def _update_record(path: bytes, hashes: dict[bytes, tuple[str, int]]) -> None:
    record: dict[str, Any] = json.loads(Path(os.fsdecode(path)).read_bytes())
    environment = os.path.dirname(os.path.dirname(path))
    for entry in record["paths_data"]["paths"]:
        found = hashes.get(os.path.join(environment, os.fsencode(entry["_path"])))
        if found is not None and "sha256_in_prefix" in entry:
            entry["sha256_in_prefix"], entry["size_in_bytes"] = found
    _write_anew(path, json.dumps(record).encode())


def template() -> Template:
    """Return this machine's template; make it if there is none with the present content."""
    root = cache_root()
    directory = root / _key()
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (root / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (directory / "complete.json").exists():
            _remove_unused(root)
            shutil.rmtree(directory, ignore_errors=True)
            _make(directory)
    os.utime(directory)
    found = json.loads((directory / "complete.json").read_bytes())
    mentions = [os.fsencode(path) for path in found["mentions"]]
    return Template(Path(found["prefix"]), directory / "channel", mentions)


def cache_root() -> Path:
    """Return the directory of templates: `$XDG_CACHE_HOME/envsync-tests`, if it is short enough."""
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    root = caches / "envsync-tests"
    if len(os.fsencode(root)) > _PREFIX_LENGTH - 30:
        root = Path(tempfile.gettempdir(), f"envsync-{os.getuid()}", "envsync-tests")
    return root


def _remove_unused(root: Path) -> None:
    """Remove all but the `_KEPT` templates used last; each interpreter has its own."""
    templates = sorted(
        (path for path in root.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime
    )
    for path in templates[:-_KEPT]:
        shutil.rmtree(path)


def _key() -> str:
    digest = hashlib.sha256(f"{sys.version} {sys.base_prefix}".encode())
    digest.update(importlib.metadata.version("py-rattler").encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def _make(directory: Path) -> None:
    channel = directory / "channel"
    prefix = directory / "prefix".ljust(_PREFIX_LENGTH - len(os.fsencode(directory)) - 1, "_")
    build_channel(channel)
    create_base(prefix, channel)
    add_user_files(create_environment(prefix, ENVIRONMENT, channel), prefix)
    found = {
        "prefix": str(prefix),
        "mentions": [os.fsdecode(path) for path in _mentions(os.fsencode(prefix))],
    }
    (directory / "complete.json").write_text(json.dumps(found))


def _mentions(prefix: bytes) -> Iterator[bytes]:
    for directory, subdirectories, names in os.walk(prefix):
        for name in (*subdirectories, *names):
            path = os.path.join(directory, name)
            if os.path.islink(path):
                named = prefix in os.readlink(path)
            else:
                named = os.path.isfile(path) and prefix in Path(os.fsdecode(path)).read_bytes()
            if named:
                yield os.path.relpath(path, prefix)
