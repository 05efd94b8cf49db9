"""A source from an archive: unpacked in private, then treated like any other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from envsync.agent.server.helper_processes import HelperProcesses
from envsync.agent.server.machine import platform_facts
from envsync.agent.wire.figures import OnFigure
from envsync.agent.wire.messages import Finding, SourceState
from envsync.conda.platform_needs import Platform, kernel_machine
from envsync.errors import about
from envsync.push.ends.end import LocalEnd
from envsync.push.ends.local_source import LocalSource, open_local
from envsync.push.ends.source import Source
from envsync.push.ends.source_look import SourceLook
from envsync.push.packing.disk_here import LARGER_CACHE, disk_here
from envsync.push.packing.pack_archive import pack_unchanged
from envsync.push.packing.packed_platform import packed_platform
from envsync.push.packing.unpack_place import UnpackPlace
from envsync.push.packing.unpacking import unpack
from envsync.push.request.places import Place
from envsync.push.request.settings import PushSettings
from envsync.tree.local import LocalPaths


class Filled(NamedTuple):
    """What is known of an unpacked tree.

    `earlier` are the paths where it was before, and `platform` is set if it is not this machine's.
    """

    warnings: tuple[str, ...]
    earlier: tuple[bytes, ...]
    platform: Platform | None = None


@dataclass(frozen=True, slots=True)
class ArchiveFile:
    """An archive that a person names, from whichever machine."""

    path: Path

    def fill(self, top: Path) -> Filled:
        """Unpack it into the empty directory `top`."""
        earlier = unpack(self.path, top)
        return Filled((), earlier, _other_platform(top))


@dataclass(frozen=True, slots=True)
class PackedHere:
    """An environment of this machine, as conda-pack packs it."""

    environment: Path
    open_source: Callable[[], Source]

    def fill(self, top: Path) -> Filled:
        """Pack it, and unpack that into the empty directory `top`."""
        # Only whoever packs waits for conda-pack to be imported.
        from envsync.push.packing.conda_pack_run import run_conda_pack

        def pack(_: Source, require_unchanged: Callable[[], None]) -> tuple[str, ...]:
            nothing = LocalPaths(())
            warnings = run_conda_pack(self.environment, archive, "tar", nothing, proves=False)
            require_unchanged()
            return warnings

        with disk_here(top, LARGER_CACHE), TemporaryDirectory(dir=top.parent) as workplace:
            archive = Path(workplace, "packed.tar")
            warnings = pack_unchanged(self.open_source, pack)
            earlier = unpack(archive, top, is_own=True)
        return Filled(warnings, earlier)


class PackedLook(SourceLook):
    """A look at what is unpacked, which answers for the source that this comes from, too.

    `origin` is the environment of that name on this machine, if there is one: a target with one of
    its versions may get this one, and the other way round.
    """

    def __init__(
        self,
        end: LocalEnd,
        settings: PushSettings,
        packed: ArchiveFile | PackedHere,
        origin: LocalSource | None,
    ) -> None:
        self._place = UnpackPlace(settings.environment)
        super().__init__(end, str(self._place.prefix), settings.environment, settings.local)
        self._packed = packed
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

    def inspect(self, on_progress: OnFigure | None) -> SourceState:
        if self._filled is None:
            with about(self.server):
                self._filled = self._unpack()
        state = super().inspect(on_progress)
        had = () if self._origin is None else self._origin.had()
        findings = tuple(Finding("pack", warning) for warning in self._filled.warnings)
        return state._replace(
            had=state.had + had, environment_id="", findings=state.findings + findings
        )

    def _unpack(self) -> Filled:
        self._place.begin()
        filled = self._packed.fill(self._place.environment)
        self._agent.was_packed(filled.earlier, filled.platform)
        return filled

    def close(self) -> None:
        super().close()
        self._place.close()


def packed_source(settings: PushSettings, source: Place, helpers: HelperProcesses) -> LocalSource:
    """Return the environment as conda-pack packs it, or what the settings' archive has.

    `source` is on this machine.
    """

    def open_origin() -> LocalSource:
        return open_local(source, settings.environment, settings.local, helpers)

    environment = Path(source.prefix, "envs", settings.environment)
    packed: ArchiveFile | PackedHere = PackedHere(environment, open_origin)
    if settings.archive:
        packed = ArchiveFile(Path(settings.archive))
    origin = open_origin() if environment.is_dir() else None
    end = LocalEnd(source.server, helpers)
    return LocalSource(PackedLook(end, settings, packed, origin), end.service.source)


def _other_platform(top: Path) -> Platform | None:
    """Return the platform of what was packed elsewhere, without its C library, which is unknown."""
    packed, here = packed_platform(top), platform_facts()
    if packed is None or packed == (here.system, kernel_machine(here.machine)):
        return None
    return Platform(packed.system, packed.machine, "", "")
