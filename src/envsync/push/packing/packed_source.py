"""A source that comes out of an archive: unpacked in private, and then like any other.

It is unpacked in the user's cache directory, at a path of its own for each name, so what this
machine has pushed under that name is remembered. Packed here or elsewhere makes no difference.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

from envsync.agent.server.helper_processes import HelperProcesses
from envsync.agent.trees.removal import remove_tree
from envsync.agent.wire.messages import Finding
from envsync.errors import Locked, SourceRefused, StorageFailed
from envsync.files.directories import cache_directory
from envsync.push.ends.end import LocalEnd, Progress
from envsync.push.ends.source_end import SourceEnd
from envsync.push.order.settings import PushSettings
from envsync.push.packing.extraction import make_directory
from envsync.push.packing.pack_archive import write_archive
from envsync.push.packing.unpacking import unpack
from envsync.push.preflight import preflight

T = TypeVar("T")


class Filled(NamedTuple):
    """What a person should know of an unpacked tree, and the paths where it stood before."""

    told: tuple[str, ...]
    earlier: tuple[bytes, ...]


Fill = Callable[[Path], Filled]


class UnpackPlace:
    """`prefix` has the one environment that is unpacked; nobody else unpacks that name now."""

    def __init__(self, name: str) -> None:
        cache = cache_directory(os.environ)
        base = Path(cache) if cache else _temporary()
        self.prefix = base / "unpacked" / name
        self.environment = self.prefix / "envs" / name
        try:
            self.prefix.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = (self.prefix / "lock").open("w")
        except OSError as error:
            raise StorageFailed(
                f"{self.prefix} cannot be made, and an archive is unpacked there: {error.strerror}",
                hint="set XDG_CACHE_HOME to a directory that this user can write",
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise Locked(f"another envsync is unpacking {name} on this machine") from None

    def clear(self) -> None:
        remove_tree(os.fsencode(self.prefix / "envs"))

    def close(self) -> None:
        if not self._lock.closed:
            self.clear()
            self._lock.close()


def _temporary() -> Path:
    """Where a user without a home unpacks; nobody else may put anything there, or have done so."""
    base = Path(tempfile.gettempdir(), f"envsync-{os.geteuid()}")
    with contextlib.suppress(FileExistsError):
        base.mkdir(mode=0o700)
    status = base.lstat()
    is_private = stat.S_ISDIR(status.st_mode) and not status.st_mode & 0o077
    if not is_private or status.st_uid != os.geteuid():
        raise SourceRefused(
            f"{base} is not this user's alone, so nothing can be unpacked there",
            hint="set XDG_CACHE_HOME to a directory of this user",
        )
    return base


class PackedSource(SourceEnd):
    """What `fill` unpacks.

    `origin` is the environment of that name here, if there is one: a target that holds a
    version of it may get this one, and the other way round.
    """

    def __init__(self, end: LocalEnd, settings: PushSettings, fill: Fill, origin: SourceEnd | None):
        self._unpacked = UnpackPlace(settings.environment)
        self._fill = fill
        self._origin = origin
        self._told: tuple[str, ...] | None = None
        prefix = str(self._unpacked.prefix)
        super().__init__(end, prefix, settings.environment, settings.local)
        if origin is not None and not settings.archive:
            self.place = origin.place

    def _inspect(self, on_progress: Progress | None = None) -> None:
        if self._told is None:
            self._unpacked.clear()
            self._unpacked.environment.parent.mkdir(exist_ok=True)
            make_directory(self._unpacked.environment)
            self._told, self._agent_here.earlier = self._fill(self._unpacked.environment)
        super()._inspect(on_progress)
        if self._state is not None:
            found = tuple(Finding("pack", told) for told in self._told)
            had = self._state.had if self._origin is None else self._state.had + self._origin.had()
            findings = self._state.findings + found
            self._state = self._state._replace(had=had, findings=findings)

    def sees(self, nonce: str) -> bool:
        return self.place is not None and self._origin is not None and self._origin.sees(nonce)

    def remember(self, revision: str) -> None:
        super().remember(revision)
        if self._origin is not None:
            self._origin.remember(revision)

    def close(self) -> None:
        super().close()
        self._unpacked.close()


def packed_source(settings: PushSettings, server: str, helpers: HelperProcesses) -> PackedSource:
    """The environment of these settings as conda-pack packs it, or what their archive has."""

    def look() -> SourceEnd:
        end = LocalEnd(server, helpers)
        return SourceEnd(end, settings.source_prefix, settings.environment, settings.local)

    environment = Path(settings.source_prefix, "envs", settings.environment)

    def pack_here(top: Path) -> Filled:
        archive = top.parent / "packed.tar"
        told = at_rest(look, lambda _: write_archive(environment, archive, "tar", force=True))
        earlier = unpack(archive, top)
        archive.unlink()
        return Filled(told, earlier)

    def unpack_archive(top: Path) -> Filled:
        return Filled((), unpack(Path(settings.archive), top))

    fill = unpack_archive if settings.archive else pack_here
    origin = look() if environment.is_dir() else None
    return PackedSource(LocalEnd(server, helpers), settings, fill, origin)


def at_rest(look: Callable[[], SourceEnd], pack: Callable[[SourceEnd], T]) -> T:
    """Pack an environment that is at rest, and the same before and after (P4).

    `pack` is given it as it was found before.
    """
    source = look()
    before = source.state()
    preflight.require_source(before)
    packed = pack(source)
    after = look().state()
    preflight.require_source(after)
    if after.revision != before.revision:
        raise SourceRefused(
            "the source changed while it was packed", hint="pack it again when it is at rest"
        )
    return packed
