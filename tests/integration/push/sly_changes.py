"""Ways to make another version of a source whose files keep their sizes and times."""

from __future__ import annotations

import ctypes
import mmap
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from tests.integration.push.readers import NAMES
from tests.integration.push.stamped import write_version

_EXCHANGE, _AT_FDCWD = 2, -100
Change = Callable[[Path, int], None]


def exchange(first: Path, second: Path) -> None:
    """Swap two names in one step."""
    libc = ctypes.CDLL(None, use_errno=True)
    done = libc.renameat2(_AT_FDCWD, bytes(first), _AT_FDCWD, bytes(second), _EXCHANGE)
    assert done == 0, os.strerror(ctypes.get_errno())


def put_times(of: Path, onto: Path) -> None:
    status = of.lstat()
    os.utime(onto, ns=(status.st_atime_ns, status.st_mtime_ns), follow_symlinks=False)


def other_version(top: Path, version: int) -> Path:
    """The stamped files of that version beside the environment, with the times of its own."""
    beside = top.parent / f"other-{version}"
    (beside / "stamps").mkdir(parents=True)
    write_version(beside, version)
    for name in NAMES:
        put_times(top / "stamps" / name, beside / "stamps" / name)
    put_times(top / "stamps", beside / "stamps")
    return beside / "stamps"


def rewritten_in_place(top: Path, version: int) -> None:
    other = other_version(top, version)
    for name in NAMES:
        path = top / "stamps" / name
        before = path.stat()
        with path.open("r+b") as file:
            file.write((other / name).read_bytes())
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replaced_by_files(top: Path, version: int) -> None:
    other = other_version(top, version)
    for name in NAMES:
        (other / name).replace(top / "stamps" / name)
    put_times(other, top / "stamps")


def swapped_one_by_one(top: Path, version: int) -> None:
    other = other_version(top, version)
    for name in NAMES:
        exchange(other / name, top / "stamps" / name)


def swapped_by_hard_links(top: Path, version: int) -> None:
    other = other_version(top, version)
    for name in NAMES:
        path = top / "stamps" / name
        path.unlink()
        path.hardlink_to(other / name)
    put_times(other, top / "stamps")


def directory_swapped(top: Path, version: int) -> None:
    exchange(other_version(top, version), top / "stamps")


def directory_behind_a_link(top: Path, version: int) -> None:
    """The same names, read through a symbolic link that leads out of the environment."""
    other = other_version(top, version)
    (top / "stamps").rename(top.parent / f"away-{version}")
    (top / "stamps").symlink_to(other)


def environment_swapped(top: Path, version: int) -> None:
    """The whole environment is another directory from now on."""
    other = top.parent / f"twin-{version}"
    shutil.copytree(top, other, symlinks=True)
    for name in NAMES:
        (other / "stamps" / name).unlink()
    write_version(other, version)
    for name in NAMES:
        put_times(top / "stamps" / name, other / "stamps" / name)
    exchange(other, top)


def link_retargeted(top: Path, version: int) -> None:
    """`stamps` is a link here (see `behind_a_link`): it leads elsewhere, its own times kept."""
    link = top / "stamps"
    before = link.lstat()
    beside = link.with_name("stamps-other")
    beside.symlink_to(f"versions/{version:08}")
    os.utime(beside, ns=(before.st_atime_ns, before.st_mtime_ns), follow_symlinks=False)
    beside.replace(link)


def behind_a_link(top: Path, versions: list[int]) -> None:
    """Several versions side by side in the environment, `stamps` a link to the first."""
    (top / "versions").mkdir()
    (top / "stamps").rename(top / f"versions/{versions[0]:08}")
    for version in versions[1:]:
        (top / f"versions/{version:08}").mkdir()
        (top / "stamps").symlink_to(f"versions/{version:08}")
        write_version(top, version)
        (top / "stamps").unlink()
    (top / "stamps").symlink_to(f"versions/{versions[0]:08}")


SLY_CHANGES: tuple[Change, ...] = (
    rewritten_in_place,
    replaced_by_files,
    swapped_one_by_one,
    swapped_by_hard_links,
    directory_swapped,
    directory_behind_a_link,
    environment_swapped,
)


class MemoryWriter:
    """Changes files through memory that it has mapped and written to before."""

    def __init__(self, top: Path) -> None:
        self._maps: dict[str, mmap.mmap] = {}
        for name in NAMES:
            with (top / "stamps" / name).open("r+b") as file:
                self._maps[name] = mmap.mmap(file.fileno(), 0)
            self._maps[name][:] = self._maps[name][:]  # from here on, no time changes any more

    def write(self, version_files: Path) -> None:
        for name, mapped in self._maps.items():
            mapped[:] = (version_files / name).read_bytes()

    def close(self) -> None:
        for mapped in self._maps.values():
            mapped.close()
