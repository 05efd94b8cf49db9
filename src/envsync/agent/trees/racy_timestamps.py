"""Handles racy timestamps: two changes so close together that both may have the same one."""

from __future__ import annotations

import time
from typing import Dict

from envsync.agent.server.filesystem import COARSE_MARGIN_SECONDS
from envsync.agent.trees.cache_file import Known
from envsync.agent.trees.scan_pass import Scan
from envsync.agent.trees.stat_rows import pack, unpack


def let_stamps_settle(scanned: Scan, margin_seconds: float) -> int:
    """Wait until any further change of the newest file would have a later timestamp.

    Return the timestamp in nanoseconds up to which that is certain. Coarse timestamps may come
    from another machine, whose clock need not agree with ours; then the wait is always the whole
    margin.
    """
    time.sleep(seconds_to_settle(scanned, margin_seconds))
    if margin_seconds >= COARSE_MARGIN_SECONDS:
        return scanned.newest_ns
    return time.time_ns() - int(margin_seconds * 1e9)


def seconds_to_settle(scanned: Scan, margin_seconds: float) -> float:
    """Return the seconds until any change of a tree shows timestamps later than this scan's."""
    if margin_seconds >= COARSE_MARGIN_SECONDS:
        return margin_seconds
    age_seconds = (time.time_ns() - scanned.newest_ns) / 1e9
    return margin_seconds - age_seconds if 0 <= age_seconds < margin_seconds else 0.0


def without_racy(directories: Dict[bytes, Known], settled_ns: int) -> Dict[bytes, Known]:
    """Return the rows with files that changed too shortly before hashing marked as unknown."""
    kept: Dict[bytes, Known] = {}
    for path, known in directories.items():
        rows = unpack(known.rows)
        if any(row.ctime_ns > settled_ns for row in rows):
            rows = [row if row.ctime_ns <= settled_ns else row._replace(inode=0) for row in rows]
            kept[path] = known._replace(rows=pack(rows))
        else:
            kept[path] = known
    return kept
