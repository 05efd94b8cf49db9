"""A source from an archive: unpacked in private, then treated like any other.

It is unpacked in the user's cache directory, at a separate path for each name, so that what this
machine has pushed under that name is remembered, wherever it was packed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shlex
import stat
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

from envsync.agent.server.helper_processes import HelperProcesses
from envsync.agent.server.machine import platform_facts
from envsync.agent.trees.removal import remove_tree
from envsync.agent.wire.figures import OnFigure
from envsync.agent.wire.messages import Finding, SourceState
from envsync.conda.platform_needs import Platform, kernel_machine
from envsync.errors import Locked, SourceRefused, StorageFailed, about
from envsync.files.directories import unpacked_directory
from envsync.push.ends.end import LocalEnd
from envsync.push.ends.local_source import LocalSource, open_local
from envsync.push.ends.source import Source
from envsync.push.ends.source_look import SourceLook
from envsync.push.packing.disk_here import LARGER_CACHE, disk_here
from envsync.push.packing.extraction import make_directory
from envsync.push.packing.pack_archive import write_archive
from envsync.push.packing.packed_platform import packed_platform
from envsync.push.packing.unpacking import unpack
from envsync.push.preflight import preflight
from envsync.push.request.places import Place
from envsync.push.request.settings import PushSettings

T = TypeVar("T")
_WAIT_SECONDS = 5.0
_ASK_SECONDS = 0.05


class Filled(NamedTuple):
    """What is known of an unpacked tree.

    `earlier` are the paths where it was before, and `platform` is set if it is not this machine's.
    """

    warnings: tuple[str, ...]
    earlier: tuple[bytes, ...]
    platform: Platform | None = None


Fill = Callable[[Path], Filled]


class UnpackPlace:
    """A directory `prefix` for the one unpacked environment; nobody else unpacks that name now."""

    def __init__(self, name: str) -> None:
        above = Path(unpacked_directory(os.environ) or _temporary() / "unpacked")
        self.prefix = above / name
        self.environment = self.prefix / "envs" / name
        try:
            for directory in (above, self.prefix):
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                _require_own(directory, stat.S_IWGRP | stat.S_IWOTH)
            self._lock = (self.prefix / "lock").open("w")
        except OSError as error:
            raise StorageFailed(
                f"cannot create {self.prefix} to unpack an archive: {error.strerror}",
                hint="set XDG_CACHE_HOME to a directory that this user can write",
            ) from error
        try:
            self._take_lock()
        except BlockingIOError:
            self._lock.close()
            raise Locked(f"another envsync is unpacking {name} on this machine") from None
        except OSError as error:  # a network filesystem without its lock service
            self._lock.close()
            raise StorageFailed(
                f"cannot lock a file in {self.prefix}: {error.strerror}",
                hint="set XDG_CACHE_HOME to a directory on a disk of this machine",
            ) from error

    def _take_lock(self) -> None:
        """Take the lock, which a `gc` has for as long as it removes what was left there."""
        deadline = time.monotonic() + _WAIT_SECONDS
        while True:
            try:
                return fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(_ASK_SECONDS)

    def clear(self) -> None:
        """Remove all that is unpacked, even if it is still being unpacked: Ctrl-C waits for nobody.

        It is renamed first, so that unpacking cannot go on, except for the entry that is under way.
        """
        going = self.prefix / "going"
        self._remove(going)
        with contextlib.suppress(FileNotFoundError):
            (self.prefix / "envs").rename(going)
        self._remove(going)

    def _remove(self, going: Path) -> None:
        try:
            remove_tree(os.fsencode(going))
        except OSError as error:
            if error.errno != errno.ENOTEMPTY:
                raise
            remove_tree(os.fsencode(going))

    def close(self) -> None:
        if not self._lock.closed:
            self.clear()
            self._lock.close()


def _temporary() -> Path:
    """Return where a user without a home unpacks; no other user may have access to it."""
    base = Path(tempfile.gettempdir(), f"envsync-{os.geteuid()}")
    with contextlib.suppress(FileExistsError):
        base.mkdir(mode=0o700)
    _require_own(base, stat.S_IRWXG | stat.S_IRWXO)
    return base


def _require_own(directory: Path, access: int) -> None:
    """Raise `SourceRefused` if another user made `directory`, or has one of `access` to it."""
    status = directory.lstat()
    is_own = stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()
    if not is_own or status.st_mode & access:
        closing = f"chmod 700 {shlex.quote(str(directory))}"
        raise SourceRefused(
            f"{directory} is not private to this user, so nothing is unpacked there",
            hint=closing if is_own else "set XDG_CACHE_HOME to a directory of this user",
        )


class PackedLook(SourceLook):
    """A look at what `fill` unpacks, which answers for the source that this comes from, too.

    `origin` is the environment of that name on this machine, if there is one: a target with one of
    its versions may get this one, and the other way round.
    """

    def __init__(
        self, end: LocalEnd, settings: PushSettings, fill: Fill, origin: LocalSource | None
    ) -> None:
        self._unpacked = UnpackPlace(settings.environment)
        super().__init__(end, str(self._unpacked.prefix), settings.environment, settings.local)
        self._fill = fill
        self._filled: Filled | None = None
        self._origin = origin
        self._agent = end.service.source
        self.identity = None if origin is None or settings.archive else origin.look.identity

    def sees(self, nonce: str) -> bool:
        if self._origin is None or self.identity is None:
            return False
        return self._origin.look.sees(nonce)

    def remember(self, revision: str) -> str:
        problem = super().remember(revision)
        return problem if self._origin is None else self._origin.look.remember(revision)

    def _state_now(self, on_progress: OnFigure | None) -> SourceState:
        if self._filled is None:
            with about(self.server):
                self._filled = self._unpack()
        state = super()._state_now(on_progress)
        had = () if self._origin is None else self._origin.had()
        findings = tuple(Finding("pack", warning) for warning in self._filled.warnings)
        return state._replace(
            had=state.had + had, environment_id="", findings=state.findings + findings
        )

    def _unpack(self) -> Filled:
        self._unpacked.clear()
        self._unpacked.environment.parent.mkdir(exist_ok=True)
        make_directory(self._unpacked.environment)
        filled = self._fill(self._unpacked.environment)
        self._agent.earlier, self._agent.platform = filled.earlier, filled.platform
        return filled

    def close(self) -> None:
        super().close()
        self._unpacked.close()


def packed_source(settings: PushSettings, source: Place, helpers: HelperProcesses) -> LocalSource:
    """Return the environment as conda-pack packs it, or what the settings' archive has.

    `source` is on this machine.
    """
    name, local = settings.environment, settings.local

    def open_origin() -> LocalSource:
        return open_local(source, name, local, helpers)

    environment = Path(source.prefix, "envs", name)

    def pack_here(top: Path) -> Filled:
        archive = top.parent / "packed.tar"

        def write(_: Source) -> tuple[str, ...]:
            with disk_here(top, LARGER_CACHE):
                return write_archive(environment, archive, "tar", force=True, proves=False)

        warnings = pack_unchanged(open_origin, write)
        earlier = unpack(archive, top, is_own=True)
        archive.unlink()
        return Filled(warnings, earlier)

    def unpack_archive(top: Path) -> Filled:
        earlier = unpack(Path(settings.archive), top)
        return Filled((), earlier, _other_platform(top))

    fill = unpack_archive if settings.archive else pack_here
    origin = open_origin() if environment.is_dir() else None
    end = LocalEnd(source.server, helpers)
    return LocalSource(PackedLook(end, settings, fill, origin), end.service.source)


def _other_platform(top: Path) -> Platform | None:
    """Return the platform of what was packed elsewhere, without its C library, which is unknown."""
    packed, here = packed_platform(top), platform_facts()
    if packed is None or packed == (here.system, kernel_machine(here.machine)):
        return None
    return Platform(packed.system, packed.machine, "", "")


def pack_unchanged(open_source: Callable[[], Source], pack: Callable[[Source], T]) -> T:
    """Pack an environment; raises `SourceRefused` if it is busy, or differs afterwards.

    `pack` is given the source as it was found before.
    """
    source = open_source()
    before = source.look.state()
    preflight.require_source(before)
    packed = pack(source)
    after = open_source().look.state()
    preflight.require_source(after)
    if after.revision != before.revision:
        raise SourceRefused(
            "the source changed while it was packed", hint="pack it again when it is at rest"
        )
    return packed
