"""An environment of any size, grown deterministically: `make_many_files`.

The sizes, the share of bytecode and how well it all compresses follow a real machine
learning environment: a median of 3.7 kB, half the bytes in few shared libraries, a third
of the files bytecode, about 3:1 by zstd.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import marshal
import os
import random
from dataclasses import dataclass, field
from pathlib import Path

_MODULES_PER_PACKAGE = 40
_MEDIAN_BYTES = 3700
# Half of a text is fresh (64 letters, 6 bits a byte), half repeats earlier pieces of it: zstd
# makes a third of it, at the speed that it has with real code.
_LETTERS = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ01234567_ (\n"
_TABLE = bytes(_LETTERS[value % 64] for value in range(256))
_PIECE_BYTES = 64
BULK_TIME = 1_750_000_000


def make_many_files(environment: Path, *, entries: int, total_bytes: int, seed: int = 0) -> None:
    """Grow `environment` to about `entries` files and directories and `total_bytes` bytes.

    What is added are pip-like distributions `bulk-0000` ... in site-packages, with valid
    bytecode and RECORD. The same arguments give the same bytes.
    """
    have_entries, have_bytes = _measure(environment)
    site_packages = next(environment.glob("lib/python3.*/site-packages"))
    growth = _Growth(site_packages, random.Random(seed), total_bytes - have_bytes)
    left = entries - have_entries
    per_distribution = 2 * _MODULES_PER_PACKAGE + 10
    count = max(1, round(left / per_distribution))
    for number in range(count):
        growth.add_distribution(number, libraries=1, remaining=count - number)


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
    bytes_left: int
    _record: list[str] = field(default_factory=list)

    def add_distribution(self, number: int, *, libraries: int, remaining: int) -> None:
        """Modules with bytecode, some data, and a library that takes the rest of the bytes."""
        name = f"bulk_{number:04d}"
        budget = self.bytes_left // remaining
        before = self.bytes_left
        self._record.clear()
        for directory in (name, f"{name}/__pycache__", f"{name}/data", f"{name}-1.0.dist-info"):
            (self.site_packages / directory).mkdir()
        self._write(f"{name}/__init__.py", b'"""Bulk."""\n')
        for module in range(_MODULES_PER_PACKAGE):
            self._add_module(name, module)
        self._write(f"{name}/data/table.dat", self._text(self._size()))
        spent = before - self.bytes_left
        self._write(f"{name}/_native.so", b"\x7fELF" + self._text(max(0, budget - spent)))
        dist_info = f"{name}-1.0.dist-info"
        metadata = f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 1.0\n"
        self._write(f"{dist_info}/METADATA", metadata.encode())
        self._write(f"{dist_info}/INSTALLER", b"pip\n")
        self._record.append(f"{dist_info}/RECORD,,")
        (self.site_packages / dist_info / "RECORD").write_text("\n".join(self._record) + "\n")

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
        return min(int(self.chance.lognormvariate(8.216, 1.3)), 400_000)

    def _text(self, size: int) -> bytes:
        fresh = self.chance.randbytes(size // 2 + 1).translate(_TABLE)
        pieces: list[bytes] = []
        for start in range(0, len(fresh), _PIECE_BYTES):
            again = start * 40503 % (start + 1)
            pieces += (fresh[start : start + _PIECE_BYTES], fresh[again : again + _PIECE_BYTES])
        return b"".join(pieces)[:size]

    def _write(self, path: str, data: bytes) -> None:
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        self._record.append(f"{path},sha256={digest},{len(data)}")
        full = self.site_packages / path
        full.write_bytes(data)
        os.utime(full, (BULK_TIME, BULK_TIME))
        self.bytes_left -= len(data)
