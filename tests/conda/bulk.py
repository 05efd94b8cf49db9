"""Grows an environment to any size, deterministically: `make_many_files`.

Sizes, share of bytecode and compressibility follow a real machine learning environment: a
median of 3.7 kB, half of the bytes in a few shared libraries, a third of the files bytecode, and
about 3:1 with zstd.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import marshal
import math
import os
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

_MODULES_PER_DISTRIBUTION = 40
# Includes bytecode, the data file, directories and dist-info.
_ENTRIES_PER_DISTRIBUTION = 2 * _MODULES_PER_DISTRIBUTION + 9
_LIBRARIES = 24
_LARGE_CHUNK_BYTES = 4 * 1024 * 1024
# Sizes of modules are log-normal, with a median of 3.7 kB.
_LOG_MEAN, _LOG_DEVIATION = math.log(3700), 1.2
_MEAN_BYTES = math.exp(_LOG_MEAN + _LOG_DEVIATION**2 / 2)
# If a small total would leave too little for the libraries, all modules shrink to this share.
_SHARE_OF_MODULES = 0.6
# Half of a text is fresh (64 letters, 6 bits per byte), half repeats earlier pieces: zstd
# compresses it to a third, as fast as real code.
_LETTERS = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ01234567_ (\n"
_TABLE = bytes(_LETTERS[value % 64] for value in range(256))
_PIECE_BYTES = 64
BULK_TIME = 1_750_000_000


def make_many_files(environment: Path, *, entries: int, total_bytes: int, seed: int = 0) -> None:
    """Grow `environment` to about `entries` files and directories and `total_bytes` bytes.

    It adds pip-like distributions `bulk-0000` ... in site-packages, with valid bytecode and
    RECORD, and `bulk-native` with a few libraries that have half of the bytes. Equal arguments
    give equal bytes.
    """
    have_entries, have_bytes = _measure(environment)
    [site_packages] = environment.glob("lib/python3.*/site-packages")
    scale = min(1.0, _SHARE_OF_MODULES * total_bytes / entries / _MEAN_BYTES)
    growth = _Growth(site_packages, random.Random(seed), scale, total_bytes - have_bytes)
    for number in range(max(1, round((entries - have_entries) / _ENTRIES_PER_DISTRIBUTION))):
        growth.add_modules(f"bulk_{number:04d}")
    growth.add_libraries("bulk_native")


def text(chance: random.Random, size: int) -> bytes:
    """Return `size` bytes that compress like real code."""
    fresh = chance.randbytes(size // 2 + 1).translate(_TABLE)
    pieces: list[bytes] = []
    for start in range(0, len(fresh), _PIECE_BYTES):
        again = start * 40503 % (start + 1)
        pieces += (fresh[start : start + _PIECE_BYTES], fresh[again : again + _PIECE_BYTES])
    return b"".join(pieces)[:size]


def _measure(environment: Path) -> tuple[int, int]:
    entries = size = 0
    for directory, subdirectories, names in os.walk(environment):
        entries += len(subdirectories) + len(names)
        size += sum(os.lstat(os.path.join(directory, name)).st_size for name in names)
    return entries, size


@dataclass(slots=True)
class _Growth:
    site_packages: Path
    chance: random.Random
    scale: float
    bytes_left: int
    _record: list[str] = field(default_factory=list)

    def add_modules(self, name: str) -> None:
        """Add a distribution of modules with bytecode and a data file."""
        for directory in (name, f"{name}/__pycache__", f"{name}/data"):
            (self.site_packages / directory).mkdir()
        self._write(f"{name}/__init__.py", b'"""Bulk."""\n')
        for module in range(_MODULES_PER_DISTRIBUTION):
            self._add_module(name, module)
        self._write(f"{name}/data/table.dat", self._text(self._size()))
        self._add_dist_info(name)

    def add_libraries(self, name: str) -> None:
        """Add a distribution of large files with all bytes that are left; the second is largest.

        Then 60 % of what a push sends, in the order of paths, end within the largest file.
        """
        (self.site_packages / name).mkdir()
        weights = [1 / (number + 1) for number in range(_LIBRARIES)]
        weights[:2] = reversed(weights[:2])
        rest = max(0, self.bytes_left)
        for number, weight in enumerate(weights):
            size = int(rest * weight / sum(weights))
            self._write(f"{name}/library_{number:02d}.so", self._large(size))
        self._add_dist_info(name)

    def _large(self, size: int) -> Iterator[bytes]:
        for start in range(0, size, _LARGE_CHUNK_BYTES):
            yield self._text(min(_LARGE_CHUNK_BYTES, size - start))

    def _add_dist_info(self, name: str) -> None:
        dist_info = f"{name}-1.0.dist-info"
        (self.site_packages / dist_info).mkdir()
        metadata = f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 1.0\n"
        self._write(f"{dist_info}/METADATA", metadata.encode())
        self._write(f"{dist_info}/INSTALLER", b"pip\n")
        self._record.append(f"{dist_info}/RECORD,,")
        (self.site_packages / dist_info / "RECORD").write_text("\n".join(self._record) + "\n")
        self._record.clear()

    def _add_module(self, package: str, number: int) -> None:
        source = b'"""' + self._text(self._size()) + b'"""\n'
        path = f"{package}/module_{number:02d}.py"
        self._write(path, source)
        code = compile(source, path, "exec", dont_inherit=True)
        header = importlib.util.MAGIC_NUMBER + bytes(4)
        header += BULK_TIME.to_bytes(4, "little") + len(source).to_bytes(4, "little")
        tag = importlib.util.cache_from_source(path)
        self._write(tag, header + marshal.dumps(code))

    def _size(self) -> int:
        return min(int(self.chance.lognormvariate(_LOG_MEAN, _LOG_DEVIATION) * self.scale), 400_000)

    def _text(self, size: int) -> bytes:
        return text(self.chance, size)

    def _write(self, path: str, data: bytes | Iterable[bytes]) -> None:
        chunks = [data] if isinstance(data, bytes) else data
        digest, size = hashlib.sha256(), 0
        full = self.site_packages / path
        with full.open("wb") as file:
            for chunk in chunks:
                file.write(chunk)
                digest.update(chunk)
                size += len(chunk)
        encoded = base64.urlsafe_b64encode(digest.digest()).rstrip(b"=").decode()
        self._record.append(f"{path},sha256={encoded},{size}")
        os.utime(full, (BULK_TIME, BULK_TIME))
        self.bytes_left -= size
