"""A version on record by the current local paths: it may have been published with others.

What has become local since is no part of it any more: it belongs to the server now, and whoever
changes it there has not changed the version.
"""

from __future__ import annotations

from typing import Optional

from envsync.agent.places.records import Record, Records
from envsync.tree.local import LocalPaths
from envsync.tree.manifest import Manifest
from envsync.tree.revision import revision_of


def published_manifest(records: Records, record: Record, local: LocalPaths) -> Optional[Manifest]:
    """Return the version's manifest; None if it is missing, damaged or unreadable."""
    manifest = records.manifest(record)
    if manifest is None or record.local == local.patterns:
        return manifest
    return manifest.without(local)


def published(records: Records, record: Record, local: LocalPaths, live_revision: str) -> Record:
    """Return the record with the version's revision.

    It is computed only if the `live_revision` is another than the one on record.
    """
    if live_revision == record.revision or record.local == local.patterns:
        return record
    manifest = published_manifest(records, record, local)
    return record if manifest is None else record._replace(revision=revision_of(manifest))
