"""Earlier versions: which `keep` covers, and which to go back to."""

from __future__ import annotations

import time
from typing import Container, List, Optional, Sequence, Tuple

from envsync.agent.places.records import Record
from envsync.agent.server.accounts import who
from envsync.agent.trees.snapshot import Snapshot
from envsync.agent.wire.messages import KEPT
from envsync.tree.manifest import Totals


def ordinary_versions(records: Sequence[Record], live_inode: Optional[int]) -> List[Record]:
    """Return the earlier versions that `keep` counts: those not kept for a reason of their own."""
    return [r for r in records if not r.kept_because and r.inode != live_inode]


def beyond_keep(
    earlier: Sequence[Record], keep: int, live: Optional[Record], replaced: Optional[int] = None
) -> List[Record]:
    """Return the `ordinary_versions`, given oldest first, that `keep` does not cover, the first to
    go first.

    One with the content of the `live` version goes before all others: going back to it would change
    nothing. The one with the inode `replaced`, which was live until now, goes last: after a
    rollback it may be the oldest.
    """
    revision = None if live is None else live.revision
    in_order = sorted(earlier, key=lambda r: (r.revision != revision, r.inode == replaced))
    return in_order[: max(0, len(in_order) - keep)]


def next_to_go(
    records: Sequence[Record], live: Optional[Record], keep: int, wanted: str
) -> List[Record]:
    """Return the ordinary versions that `keep` would not cover after the next publish, in the order
    in which they may be built on.

    First comes one of the revision `wanted`, then the oldest. The live one counts as well unless it
    will be kept for a reason of its own, or the same revision is published again: of two trees of
    one revision, the earlier one is dropped.
    """
    earlier = ordinary_versions(records, None if live is None else live.inode)
    counts = live is not None and not live.kept_because and live.revision != wanted
    in_order = sorted(earlier, key=lambda record: record.revision != wanted)
    return in_order[: max(0, len(earlier) + counts - keep)]


def version_to_go_back_to(
    kept: Sequence[Record],
    current: Optional[Record],
    live_revision: str,
    removed: Optional[Record],
    held: Container[str],
) -> Optional[Record]:
    """Return the version of `kept`, given oldest first, that a rollback takes, or None.

    `current` is the record of the live version, if it has one, and `live_revision` its content now.
    `removed` is what a person removed, if that was the last event. `held` has the source revisions
    that are refused.

    After a removal, it is what was removed. Otherwise it is the newest version that is older than
    the live one, so two rollbacks go back two versions. One that is held, such as one that was
    rolled back, is taken only if there is no other. One whose check failed is never taken: it is
    kept for the changes made in it.
    """

    def is_older(record: Record) -> bool:
        return current is None or record.number < current.number

    def is_live(record: Record) -> bool:
        """Return whether it has the live content, which was published again since."""
        return current is not None and record.revision in (current.revision, live_revision)

    older = [r for r in kept if is_older(r) and not is_live(r) and not r.was_taken_back]
    if removed in older:
        return removed
    not_held = [record for record in older if record.source_revision not in held]
    return next(reversed(not_held or older), None)


def found_record(
    number: int, inode: int, snapshot: Optional[Snapshot], because: str, local: Tuple[str, ...]
) -> Record:
    """Return the record by which a version is kept that no push published as it is.

    `snapshot` is None if its tree keeps changing or cannot be read: it has no revision then.
    `local` are the patterns that it was scanned with.
    """
    revision = "" if snapshot is None else snapshot.revision
    return Record(
        number=number,
        revision=revision,
        # No source ever had this version: it was made by hand.
        source_revision=revision,
        inode=inode,
        who=who(),
        source="",
        when_seconds=time.time(),
        method=KEPT,
        transport="",
        totals=Totals() if snapshot is None else snapshot.totals,
        kept_because=because,
        local=local,
    )
