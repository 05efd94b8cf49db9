"""Queries about a target: differences, and verification, which may restore a manifest."""

from __future__ import annotations

import os
from typing import Mapping, Optional, Tuple

from envsync.agent.places.layout import require_live
from envsync.agent.places.records import Record
from envsync.agent.places.sharing import unshared
from envsync.agent.server.progress import Progress
from envsync.agent.server.reading import read_start
from envsync.agent.target.differences import describe
from envsync.agent.target.inspection import record_facts
from envsync.agent.target.look import Look
from envsync.agent.target.target import Target
from envsync.agent.trees.snapshot import Snapshot
from envsync.agent.wire.target_operations import DifferenceFacts, VerifyFacts
from envsync.errors import Hint, Locked, NotFound, VerificationFailed
from envsync.tree.difference import difference
from envsync.tree.manifest import Manifest

_FILE_BYTES_MAX = 64 << 20


def differences(
    target: Target, other: Optional[Manifest], paths_max: int, records: Mapping[str, str]
) -> DifferenceFacts:
    """Compare the live tree with another manifest, or with the record if `other` is None.

    `records` are those of packages that the live tree no longer has (see `describe`).
    """
    look, live = _look(target)
    before = other
    if before is None:
        record = look.record
        if record is None and not target.records.damaged():
            raise NotFound(
                "envsync never published it there: there is nothing to compare it with",
                hint=Hint(f"`envsync diff {target.name} {{server}}` compares it with what is here"),
            )
        before = None if record is None else target.environment.published_manifest(record)
    if before is None:
        raise VerificationFailed(
            "the manifest of what was published there is missing or damaged",
            hint=f"`envsync verify {target.name}` checks the contents",
        )

    return _described(target, before, live, paths_max, records)


def _described(
    target: Target, before: Manifest, live: Snapshot, paths_max: int, records: Mapping[str, str]
) -> DifferenceFacts:
    def read(path: bytes) -> Optional[bytes]:
        return read_start(os.path.join(target.layout.standing(), path), _FILE_BYTES_MAX)

    return describe(before, live.manifest(), read, paths_max, records)


def verify(target: Target, progress: Optional[Progress] = None) -> VerifyFacts:
    """Hash every byte of the live tree again and compare it with the record."""
    look, snapshot = _look(target, progress, fresh=True)
    record = look.record
    manifest = None if record is None else target.environment.published_manifest(record)
    if record is not None and manifest is None:
        raise _without_manifest(target, snapshot, record)
    drift = described = None
    if manifest is not None:
        drift = difference(manifest, snapshot.manifest())
        described = _described(target, manifest, snapshot, 0, {}) if drift else None
    return VerifyFacts(
        revision=snapshot.revision,
        record=None if record is None else record_facts(record),
        totals=snapshot.totals,
        damaged=() if drift is None else tuple(map(os.fsdecode, drift.changed)),
        missing=() if drift is None else tuple(map(os.fsdecode, drift.removed)),
        unexpected=() if drift is None else tuple(map(os.fsdecode, drift.added)),
        unshared=tuple(map(os.fsdecode, unshared(target.layout.standing(), target.trees.local))),
        packages=() if described is None else described.packages,
        groups=() if described is None else described.groups,
    )


def _look(
    target: Target, progress: Optional[Progress] = None, *, fresh: bool = False
) -> Tuple[Look, Snapshot]:
    """Return the last look, or with `fresh` a new one that hashes every byte, and what it found.

    Raises `NotFound` if nothing is live.
    """
    require_live(target.layout)
    look = target.last_look
    if fresh or look.live is None:
        look = target.look(progress, fresh=fresh)
    if look.live is None:
        raise NotFound("the environment vanished")
    return look, look.live


def _without_manifest(target: Target, snapshot: Snapshot, record: Record) -> VerificationFailed:
    """Return the error for a record whose manifest is missing or damaged.

    The record alone still tells whether the contents are what was published. If they are, the
    manifest is made anew from them, unless a push is under way.
    """
    what = "the manifest of what was published is missing or damaged"
    if snapshot.revision != record.revision:
        return VerificationFailed(
            f"it is not what was published; the paths are unknown, since {what}",
            hint="`envsync push --overwrite` corrects it and keeps this version",
        )
    try:
        target.lock.acquire()
        target.records.store_manifest(record.number, snapshot.manifest())
    except Locked:
        hint = "verify again when the push there is done"
    else:
        what += "; it was created again"
        hint = "verify again; if this recurs, check the disk there"
    finally:
        target.lock.release()
    return VerificationFailed(f"the contents are what was published, but {what}", hint=hint)
