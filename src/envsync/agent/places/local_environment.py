"""One environment on this server, with its versions: where they are, what is on record, and what
is in them now.
"""

from __future__ import annotations

from typing import NamedTuple, Optional, Sequence

from envsync.agent.places.layout import Layout
from envsync.agent.places.local_rules import VersionDirectories
from envsync.agent.places.records import Record, Records
from envsync.agent.server.helper_processes import NO_HELPERS, HelperProcesses
from envsync.agent.trees.trees import Trees
from envsync.tree.local import LocalPaths
from envsync.tree.manifest import Manifest
from envsync.tree.revision import revision_of


class LocalEnvironment(NamedTuple):
    """Its paths, its records, and what takes snapshots of its trees.

    A version may be on record by other local paths than the current ones. What has become local
    since is no part of it any more: it belongs to the server now, and whoever changes it there has
    not changed the version.
    """

    layout: Layout
    records: Records
    trees: Trees

    def published_manifest(self, record: Record) -> Optional[Manifest]:
        """Return a version's manifest by the current local paths.

        None if it is missing, damaged or unreadable.
        """
        manifest = self.records.manifest(record)
        if manifest is None or record.local == self.trees.local.patterns:
            return manifest
        return manifest.without(self.trees.local)

    def published(self, record: Record, live_revision: str) -> Record:
        """Return the record with the version's revision by the current local paths.

        It is computed only if the `live_revision` is another than the one on record.
        """
        if live_revision == record.revision or record.local == self.trees.local.patterns:
            return record
        manifest = self.published_manifest(record)
        return record if manifest is None else record._replace(revision=revision_of(manifest))

    def is_as_published(self, tree: bytes, record: Record) -> bool:
        """Return whether a tree is unchanged, by the current local paths or by those on record.

        What was local then was never part of that version, whatever the inventory says now. Raises
        the same errors as `Trees.snapshot`.
        """
        if self.trees.snapshot(tree).revision == record.revision:
            return True
        if record.local == self.trees.local.patterns:
            return False
        as_recorded = self.trees.with_local_paths(LocalPaths(record.local))
        return as_recorded.snapshot(tree).revision == record.revision


def local_environment(
    layout: Layout,
    local: Sequence[str],
    cache_directory: Optional[str],
    helpers: HelperProcesses = NO_HELPERS,
) -> LocalEnvironment:
    """Return the environment with these paths; `local` are the patterns of its local paths."""
    records = Records(layout)
    trees = Trees(cache_directory, LocalPaths(local), helpers, VersionDirectories(records))
    return LocalEnvironment(layout, records, trees)
