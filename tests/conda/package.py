"""Makes conda packages: entries, metadata, and the .conda archive."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from conda_package_streaming.create import conda_builder

# conda-build pads the prefix of a build to 255 characters, so that any real prefix fits over it
# inside a binary. The path need not exist.
PLACEHOLDER = ("/build/_h_env" + "_placehold" * 30)[:255]
BUILD_TIME = 1_700_000_000

Kind = Literal["file", "symlink", "hardlink"]
_TAR_TYPES: Mapping[Kind, bytes] = {
    "file": tarfile.REGTYPE,
    "symlink": tarfile.SYMTYPE,
    "hardlink": tarfile.LNKTYPE,
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One path of a package. A hard link has the data of the file that it names."""

    path: str
    data: bytes = b""
    mode: int = 0o644
    kind: Kind = "file"
    target: str = ""
    mtime: int = BUILD_TIME

    def add_to(self, archive: tarfile.TarFile) -> None:
        member = tarfile.TarInfo(self.path)
        member.type = _TAR_TYPES[self.kind]
        member.mode = self.mode
        member.mtime = self.mtime
        member.linkname = self.target
        member.size = len(self.data) if self.kind == "file" else 0
        archive.addfile(member, io.BytesIO(self.data) if self.kind == "file" else None)

    def describe(self, siblings: Mapping[str, Entry]) -> dict[str, Any]:
        """Return its record for paths.json; a symlink has the hash of the file it leads to."""
        seen: Entry | None = self
        while seen is not None and seen.kind == "symlink":
            seen = siblings.get(os.path.normpath(f"{os.path.dirname(seen.path)}/{seen.target}"))
        content = b"" if seen is None else seen.data
        record: dict[str, Any] = {
            "_path": self.path,
            "path_type": "softlink" if self.kind == "symlink" else "hardlink",
            "sha256": hashlib.sha256(content).hexdigest(),
            "size_in_bytes": len(content),
        }
        if PLACEHOLDER.encode() in self.data:
            record["prefix_placeholder"] = PLACEHOLDER
            record["file_mode"] = "binary" if b"\0" in self.data else "text"
        return record


def text(path: str, content: str, mode: int = 0o644) -> Entry:
    return Entry(path, content.encode(), mode)


def symlink(path: str, target: str) -> Entry:
    return Entry(path, mode=0o777, kind="symlink", target=target)


@dataclass(frozen=True, slots=True)
class Package:
    """A package, which `write` puts into the channel's `noarch` or platform directory."""

    name: str
    version: str
    entries: Sequence[Entry]
    build: str = "0"
    depends: Sequence[str] = ()
    noarch: Literal["python", "generic"] | None = None
    entry_points: Sequence[str] = ()

    @property
    def stem(self) -> str:
        return f"{self.name}-{self.version}-{self.build}"

    def write(self, channel: Path, platform_subdir: str) -> Path:
        subdir = "noarch" if self.noarch else platform_subdir
        directory = channel / subdir
        directory.mkdir(parents=True, exist_ok=True)
        archive_path = directory / f"{self.stem}.conda"
        with conda_builder(self.stem, directory, compression_level=1) as archive:
            for entry in (*self._metadata(subdir), *self.entries):
                entry.add_to(archive)
        return archive_path

    def _metadata(self, subdir: str) -> Iterator[Entry]:
        siblings = {entry.path: entry for entry in self.entries}
        documents: dict[str, Any] = {
            "index.json": self._index(subdir),
            "paths.json": {
                "paths_version": 1,
                "paths": [entry.describe(siblings) for entry in self.entries],
            },
            "about.json": {"summary": f"{self.name}, made for tests", "license": "MIT"},
        }
        if self.noarch == "python":
            documents["link.json"] = {
                "package_metadata_version": 1,
                "noarch": {"type": "python", "entry_points": list(self.entry_points)},
            }
        for name, document in documents.items():
            yield text(f"info/{name}", json.dumps(document, indent=2, sort_keys=True))
        yield text("info/files", "".join(f"{entry.path}\n" for entry in self.entries))

    def _index(self, subdir: str) -> dict[str, Any]:
        index: dict[str, Any] = {
            "name": self.name,
            "version": self.version,
            "build": self.build,
            "build_number": 0,
            "depends": list(self.depends),
            "license": "MIT",
            "subdir": subdir,
            "timestamp": BUILD_TIME * 1000,
        }
        if self.noarch:
            index["noarch"] = self.noarch
        return index
