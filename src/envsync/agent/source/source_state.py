"""Makes the source state that a push receives."""

from __future__ import annotations

import os
from typing import Tuple

from envsync.agent.places.local_environment import LocalEnvironment
from envsync.agent.places.revision_history import RevisionHistory
from envsync.agent.source.version import SourceVersion
from envsync.agent.trees.scan_pass import Scan
from envsync.agent.trees.snapshot import Snapshot
from envsync.agent.wire.messages import AS_SENT, Finding, SourceState
from envsync.conda.platform_needs import Platform


def state_of(
    path: bytes,
    version: SourceVersion,
    source_revision: str,
    history: RevisionHistory,
    findings: Tuple[Finding, ...],
    platform: Platform,
) -> SourceState:
    """Return the state of a hashed version of the environment with this `history`."""
    snapshot, here = version.snapshot, version.at("")
    return SourceState(
        path=os.fsdecode(path),
        revision=snapshot.revision,
        revision_there=snapshot.revision if here is None else here.facts.revision,
        source_revision=source_revision,
        totals=snapshot.totals if here is None else here.facts.totals,
        had=tuple(history.revisions()),
        environment_id=history.environment_id(),
        findings=findings,
        platform=platform,
        hashed_bytes=snapshot.hashed_bytes,
    )


def source_revision(environment: LocalEnvironment, snapshot: Snapshot) -> str:
    """Return the source revision on record, if the version is here as it was published.

    Otherwise, return the version's own revision.
    """
    record = environment.records.at(snapshot.scan.inode)
    if record is None or record.method not in AS_SENT:
        return snapshot.revision
    version = environment.published(record, snapshot.revision)
    return record.source_revision if version.revision == snapshot.revision else snapshot.revision


def left_out(scanned: Scan) -> Tuple[Finding, ...]:
    """Return findings of entries that cannot be sent."""
    special = [
        Finding("special", f"{os.fsdecode(path)} is a socket, pipe or device and is not sent")
        for path in scanned.special
    ]
    foreign = [
        Finding("foreign", f"another filesystem is mounted at {os.fsdecode(path)}", blocking=True)
        for path in scanned.foreign
    ]
    return tuple(special + foreign)
