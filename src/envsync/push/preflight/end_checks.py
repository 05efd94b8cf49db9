"""The preflight checks that query the ends; the others decide from the two states alone."""

from __future__ import annotations

import contextlib
import os

from envsync.agent.wire.messages import SourceState, TargetState
from envsync.agent.wire.target_operations import DifferenceFacts
from envsync.conda.platform_needs import glibc_mismatch
from envsync.errors import (
    EnvsyncError,
    NotFastForward,
    PreflightRefused,
    SourceShrunk,
    TargetDrifted,
    TargetIsSource,
    VerificationFailed,
)
from envsync.push.ends.both_ends import BothEnds
from envsync.push.preflight import preflight, refusal_hints, replacement
from envsync.tree.environment_name import BASE

DIFFERENCES_SHOWN = 12


class EndChecks:
    """The checks of one push."""

    def __init__(self, ends: BothEnds) -> None:
        self._ends = ends

    def require_permission(
        self, source: SourceState, target: TargetState, *, is_rebuild: bool
    ) -> None:
        """Apply `replacement.require_permission`; its error then names the packages that differ.

        It also names what the target would refuse next: a source that looks ruined by its manifest.
        """
        settings = self._ends.settings
        try:
            replacement.require_permission(settings, source, target)
        except EnvsyncError as error:
            missing = replacement.missing_options(settings, source, target)
            may_be_ruined = target.exists and _has_less(source, target) and not is_rebuild
            ruin = self._ruin() if missing and may_be_ruined and not settings.allow_shrink else ""
            if ruin:
                missing = (*missing, "--allow-shrink")
            refusal_hints.complete(error, self._ends, target, missing)
            is_other = isinstance(error, (TargetDrifted, NotFastForward)) and target.exists
            if is_other and not error.details:
                error.details = self._differences(target)
            if ruin and not isinstance(error, SourceShrunk):
                error.details = (*error.details, f"besides, {ruin}")
            raise

    def require_whole(self, ruin: str) -> None:
        """Refuse, as the target does before it builds, a source in ruins, for the reason `ruin`."""
        if ruin and not self._ends.settings.allow_shrink:
            error = SourceShrunk(ruin)
            refusal_hints.complete(error, self._ends)
            raise error

    def require_inside(self) -> None:
        """Refuse paths that lead out of the environment if `outside: fail` is set."""
        if self._ends.settings.outside == "fail" and self._ends.source.outside_paths():
            lines = self._outside()
            lead = "path leads" if len(lines) == 1 else "paths lead"
            raise PreflightRefused(
                f"{len(lines)} {lead} out of the environment",
                details=lines[:DIFFERENCES_SHOWN],
                hint="install without --editable, move them into it, or set `outside: warn`",
            )

    def require_base_starts(self, source: SourceState, target: TargetState) -> None:
        """Refuse to install conda where its Python would not start for want of a newer glibc.

        A package in `site-packages` that would not load there does not keep conda from running.
        """
        for lacking in self._base_lacks(source, target):
            raise PreflightRefused(
                f"conda would not run there: {lacking}",
                hint="install conda at the prefix there with an installer for its system, such as "
                "Miniforge; then run the same command again",
            )

    def _ruin(self) -> str:
        """Return why the source looks ruined by its manifest, or "".

        For this, both manifests are read, which takes as long as all the rest of a refusal.
        """
        with contextlib.suppress(EnvsyncError):
            manifest = self._ends.source.manifest(self._ends.target.references())
            return self._ends.target.ruin(manifest)
        return ""

    def _differences(self, target: TargetState) -> tuple[str, ...]:
        """Return how the target differs from what was published, or from the source."""
        manifest = b""
        if refusal_hints.shows_source(target):
            manifest = self._ends.source.manifest(self._ends.target.references())
        try:
            differences = self._ends.target.differences(
                manifest, DIFFERENCES_SHOWN, self._record_here
            )
        except VerificationFailed as error:
            return (error.message,)
        return difference_lines(differences)

    def name_changes(self, error: TargetDrifted, before: TargetState) -> None:
        """Name in the error what differs from `before`, the target's state, if on record."""
        if before.record is None or replacement.has_drifted(before):
            return
        with contextlib.suppress(EnvsyncError):
            since = self._ends.target.differences(b"", DIFFERENCES_SHOWN, self._record_here)
            if since.added or since.removed or since.changed:
                error.details = difference_lines(since)

    def _record_here(self, path: str) -> str | None:
        """Return the record of a package, if the source is here and has it."""
        from envsync.agent.source.package_records import record_at

        source = self._ends.source
        return record_at(os.fsdecode(source.supply.path), path) if source.is_here else None

    def refuse_the_same_place(self, target: TargetState) -> None:
        if self._ends.source.look.sees(target.nonce):
            raise TargetIsSource(
                "it is the same directory as the source, on a filesystem that both share"
            )

    def warnings(self, source: SourceState, target: TargetState) -> tuple[str, ...]:
        """Return what a person should know about what is sent, the most important first.

        To be called before the switch: after it the version is live, even if the links are lost.
        """
        glibc: tuple[str, ...] = ()
        if not self._base_lacks(source, target):  # that is no warning, but a refusal
            glibc = self._glibc(source, target)
        credentials = preflight.credential_warnings(self._ends.source.credentials())
        others = credentials[1:]  # A terminal shows only the first few warnings.
        return (*glibc, *credentials[:1], *self._outside(), *others)

    def _outside(self) -> tuple[str, ...]:
        """Return what leads out of the environment, and whether it exists on the target."""
        outside = self._ends.source.outside_paths()
        absolute = [path for path, _, _ in outside if path.startswith("/")]
        exists = dict(zip(absolute, self._ends.target.existing(absolute), strict=True))
        remarks = {True: ", which is there", False: ", which is not there{}", None: ""}
        return tuple(
            message + remarks[exists.get(path)].format(if_missing)
            for path, message, if_missing in outside
        )

    def _base_lacks(self, source: SourceState, target: TargetState) -> tuple[str, ...]:
        if self._ends.settings.environment != BASE:
            return ()
        return self._glibc(source, target, with_packages=False)

    def _glibc(
        self, source: SourceState, target: TargetState, *, with_packages: bool = True
    ) -> tuple[str, ...]:
        """Return one line if what is sent needs a newer C library than the target has."""
        if not preflight.has_older_libc(source, target):
            return ()
        path, needed = self._ends.source.newest_glibc(with_packages=with_packages)
        message = glibc_mismatch(path, needed, target.platform.libc_version)
        return () if message is None else (message,)


def difference_lines(differences: DifferenceFacts) -> tuple[str, ...]:
    """Return how many files differ, then every package that does, or some paths if none does."""
    added, removed, changed = differences.added, differences.removed, differences.changed
    counts = (
        f"{added:,} file{'' if added == 1 else 's'} added, {removed:,} removed, {changed:,} changed"
    )
    # `+ NAME VERSION`, and `NAME VERSION: COUNT files`; but the target can send anything.
    named = {tuple(line.split()[1:2]) for line in differences.packages}
    groups = (group for group in differences.groups if tuple(group.split()[:1]) not in named)
    packages = [*differences.packages, *groups]
    rest = len(packages) - DIFFERENCES_SHOWN
    if rest > 0:
        return (counts, *packages[:DIFFERENCES_SHOWN], f"and {rest:,} more packages")
    paths = () if differences.packages else differences.paths[: DIFFERENCES_SHOWN - len(packages)]
    left = added + removed + changed - len(paths)
    more = [f"and {left:,} more paths"] if paths and left else []
    return (counts, *packages, *paths, *more)


def _has_less(source: SourceState, target: TargetState) -> bool:
    here, there = source.totals, target.totals
    return here.files < there.files or here.size_bytes < there.size_bytes
