"""Rows about contents that the target already has: clones, moved environments, large files."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import zstandard

from bench.contestants import Contestant, Contestants, alternate
from bench.figures import Bar, Measured, Row
from bench.ground import Ground
from tests.conda import ENVIRONMENT

CLONE_SUMMARY = "a clone, three packages changed, the original is there, at 1 Gbit/s"
_CLONE, _MOVED = "myclone", "mymoved"
_MOVED_SHARE_MAX = 0.01
_WIRE_MAX = 1.1
# Share of all bytes: a library like numpy's. Two packages of modules come in addition.
_NEW_LIBRARY_SHARE = 0.03
_NEW_MODULES = 40
_LIBRARY = "site-packages/bulk_native/library_01.so"
_PLACES, _PLACE_BYTES = 20, 4096
# Does what `conda create --clone` does, including the new path in files that name the old one.
_MAKE_CLONE = """\
cp -a "$1" "$2"
grep -rIlZF "$1" "$2" | xargs -0r sed -i "s|$1|$2|g"
"""
_CHANGE_PACKAGES = """\
import random, sys
from pathlib import Path
from tests.conda import install_wheel
from tests.conda.bulk import text
environment, version, library_bytes, modules = sys.argv[1:]
chance = random.Random(version)
for name in ("lab_first", "lab_second"):
    parts = {f"{name}/part_{n:03d}.py": b'"%s"' % text(chance, 4000) for n in range(int(modules))}
    parts = {path: data.replace(b"\\n", b" ") for path, data in parts.items()}
    install_wheel(Path(environment), name, version, parts)
library = {"lab_native/native.so": text(chance, int(library_bytes))}
install_wheel(Path(environment), "lab_native", version, library)
"""
_VERSIONS = itertools.count(1)

Rows = Callable[[Ground, int], Iterator[Row]]


def clone(rate: str, label: str, bar: float) -> Rows:
    def rows(ground: Ground, repeat: int) -> Iterator[Row]:
        make = Contestants(ground)
        new_mb = _make_clone(ground)
        make.cold_start()
        make.pushed("pushed")

        def prepare() -> None:
            ground.remove_published(_CLONE)
            ground.forget_tree(_CLONE)
            ground.settle()

        push = Contestant("envsync", lambda: make.pushed("pushed", environment=_CLONE), prepare)
        try:
            with ground.limited(rate):
                ours, peer = alternate([push, make.rsync(cold=True, environment=_CLONE)], repeat)
        finally:
            # Other rows must not find their contents on the target under this name.
            ground.remove_published(_CLONE)
        new = Measured("zstd -1 of what is new", (new_mb,), unit="MB")
        yield Row(f"clone, {label}", ours, peer, Bar("at most", bar))
        yield Row(f"clone, {label}, to the target", ours.sent(), new, Bar("at most", _WIRE_MAX))

    return rows


def _make_clone(ground: Ground) -> float:
    """Make a clone with other versions of three packages; return the new contents in MB."""
    original, copy = (str(ground.prefix / "envs" / name) for name in (ENVIRONMENT, _CLONE))
    size_bytes = int(ground.size_bytes() * _NEW_LIBRARY_SHARE)
    arguments = [str(size_bytes), str(_NEW_MODULES)]

    def change(environment: str) -> None:
        version = f"1.{next(_VERSIONS)}"
        ground.source.python(
            _CHANGE_PACKAGES, environment, version, *arguments, timeout_seconds=300
        )

    ground.source.run(["rm", "-rf", copy], timeout_seconds=300)
    change(original)
    ground.source.run(["sh", "-ec", _MAKE_CLONE, "sh", original, copy], timeout_seconds=300)
    change(copy)
    here = ground.source.path
    return _new_mb(here(original), here(copy))


def _new_mb(old: Path, new: Path) -> float:
    """Return the compressed size in MB of the contents that are only in `new`."""
    known = {digest for _, digest in _digests(old)}
    machine = zstandard.ZstdCompressor(level=1).compressobj()
    size_bytes = 0
    for path, digest in _digests(new):
        if digest not in known:
            known.add(digest)
            size_bytes += len(machine.compress(path.read_bytes()))
    return (size_bytes + len(machine.flush())) / 1e6


def _digests(tree: Path) -> Iterator[tuple[Path, bytes]]:
    for directory, _, names in os.walk(tree):
        for name in sorted(names):
            path = Path(directory, name)
            if path.is_file() and not path.is_symlink():
                yield path, hashlib.sha256(path.read_bytes()).digest()


def large_file(ground: Ground, repeat: int) -> Iterator[Row]:
    """Rewrite the largest file in a few places, as happens to databases or model weights."""
    make = Contestants(ground)
    [library] = ground.source.path(ground.environment).glob(f"lib/python3.*/{_LIBRARY}")

    def change() -> None:
        with library.open("r+b") as file:
            for number in range(_PLACES):
                file.seek(number * (library.stat().st_size // _PLACES))
                file.write(os.urandom(_PLACE_BYTES))
        ground.settle()

    make.cold_start()
    make.pushed("pushed")
    make.rsync(cold=True).prepare()
    make.rsync(cold=True).run()
    contestants = [make.push_of_change(change), make.rsync(cold=False)]
    alternate(contestants, 2)  # then the target has a spare generation, as after normal use
    with ground.limited("200mbit"):
        ours, peer = alternate(contestants, repeat)
    yield Row("a large file changed, 200 Mbit/s", ours, peer)
    yield Row("a large file changed, to the target", ours.sent(), peer.sent())


def moved(ground: Ground, repeat: int) -> Iterator[Row]:
    """Measure what is sent for an environment that the target has under its old name."""
    make = Contestants(ground)
    make.cold_start()
    make.pushed("pushed")
    old, new = (str(ground.prefix / "envs" / name) for name in (ENVIRONMENT, _MOVED))
    push = Contestant(
        "envsync",
        lambda: make.pushed("pushed", environment=_MOVED),
        lambda: ground.remove_published(_MOVED),
    )
    ground.source.run(["mv", old, new])
    try:
        [ours] = alternate([push], repeat)
    finally:
        ground.remove_published(_MOVED)
        ground.source.run(["mv", new, old])
    everything = Measured("all its bytes", (ground.size_bytes() / 1e6,), unit="MB")
    yield Row("moved by mv", ours)
    bar = Bar("at most", _MOVED_SHARE_MAX)
    yield Row("moved by mv, to the target", ours.sent(), everything, bar)
