"""Racy timestamps: a change so soon after another that both may have the same timestamp."""

from __future__ import annotations

import time
from typing import Dict

from envsync.agent.server.filesystem import COARSE_MARGIN_SECONDS
from envsync.agent.trees.cache_file import Known
from envsync.agent.trees.scan_pass import Scan
from envsync.agent.trees.stat_rows import pack, unpack


def let_stamps_settle(scanned: Scan, margin_seconds: float) -> int:
    """Wait until a further change of the newest file would have another timestamp; the timestamp
    up to which that is certain.

    Coarse stamps may be another machine's, whose clock
    need not agree with ours: there the wait is the whole margin, whatever the clocks say.
    """
    time.sleep(seconds_to_settle(scanned, margin_seconds))
    if margin_seconds >= COARSE_MARGIN_SECONDS:
        return scanned.newest_ns
    return time.time_ns() - int(margin_seconds * 1e9)


def seconds_to_settle(scanned: Scan, margin_seconds: float) -> float:
    """How long until each further change of a tree has other timestamps than this scan saw."""
    if margin_seconds >= COARSE_MARGIN_SECONDS:
        return margin_seconds
    age_seconds = (time.time_ns() - scanned.newest_ns) / 1e9
    return margin_seconds - age_seconds if 0 <= age_seconds < margin_seconds else 0.0


def without_racy(directories: Dict[bytes, Known], settled_ns: int) -> Dict[bytes, Known]:
    """The same rows, with those files marked unknown that changed too shortly before hashing."""
    kept: Dict[bytes, Known] = {}
    for path, known in directories.items():
        rows = unpack(known.rows)
        if any(row.ctime_ns > settled_ns for row in rows):
            rows = [row if row.ctime_ns <= settled_ns else row._replace(inode=0) for row in rows]
            kept[path] = known._replace(rows=pack(rows))
        else:
            kept[path] = known
    return kept
