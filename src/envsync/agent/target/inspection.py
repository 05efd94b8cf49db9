"""What an inspection of a target reports: findings about the live version, and the state."""

from __future__ import annotations

import os
from typing import List, Optional, Sequence

from envsync.agent.places.busy_findings import live_busy_findings, unseen_findings
from envsync.agent.places.layout import Layout
from envsync.agent.places.local_environment import LocalEnvironment
from envsync.agent.places.locks import PushLock
from envsync.agent.places.members import require_open_records, shared_finding
from envsync.agent.places.records import Record, Records
from envsync.agent.server.filesystem import existing_parent, space
from envsync.agent.server.machine import platform_facts
from envsync.agent.target.look import Look
from envsync.agent.wire.messages import (
    DAMAGED_RECORD,
    Finding,
    RecordFacts,
    RemovalFacts,
    TargetState,
)
from envsync.tree.manifest import Totals


def live_findings(layout: Layout, records: Records, look: Look) -> List[Finding]:
    """Return the findings about the live version and the records."""
    found: List[Finding] = []
    if look.live is not None:
        found += live_busy_findings(look.live.scan, layout, is_as_published=look.is_as_published)
        shared = shared_finding(layout, look.record)
        found += [] if shared is None else [shared]
        found += unseen_findings("who uses the environment there, or installs in it,")
    damaged = records.damaged()
    if damaged:
        require_open_records(layout)
        message = f"the record {os.fsdecode(damaged[0])} there is damaged"
        found.append(Finding(DAMAGED_RECORD, message))
    return found


def target_state(
    environment: LocalEnvironment,
    look: Look,
    lock: PushLock,
    findings: Sequence[Finding],
    recovered: Optional[str],
) -> TargetState:
    layout, records, _ = environment
    live, record = look.live, look.record
    number = None if record is None else record.number
    removal = records.history.removal() if live is None else None
    free = space(existing_parent(layout.state))
    return TargetState(
        exists=live is not None,
        revision="" if live is None else live.revision,
        totals=Totals() if live is None else live.totals,
        record=None if record is None else record_facts(record),
        generations=tuple(record_facts(r) for r in records.all() if r.number != number),
        held=records.held.reasons(),
        findings=tuple(findings),
        platform=platform_facts(),
        nonce=lock.nonce,
        free_bytes=free.free_bytes,
        free_inodes=free.free_inodes,
        recovered=recovered,
        same_place_as=lock.other_name,
        removal=None if removal is None else RemovalFacts(removal.who, removal.when_seconds),
    )


def record_facts(record: Record) -> RecordFacts:
    return RecordFacts(**{name: getattr(record, name) for name in RecordFacts._fields})
