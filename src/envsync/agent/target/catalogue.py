"""Lists all environments of one server, for `list`."""

from __future__ import annotations

import os
from typing import Iterator, List, Mapping, Optional, Sequence

from envsync.agent.places.layout import INTENT, Layout, environment_layout
from envsync.agent.places.local_environment import LocalEnvironment, local_environment
from envsync.agent.places.local_rules import local_patterns
from envsync.agent.places.locks import holder_at
from envsync.agent.places.members import closed_records
from envsync.agent.places.prefix_environments import has_history, prefix_environments
from envsync.agent.places.records import Records
from envsync.agent.publishing.intent import DamagedIntent, find_intent
from envsync.agent.server.accounts import user_name
from envsync.agent.server.disk_failures import error_text
from envsync.agent.target.inspection import record_facts
from envsync.agent.target.preparation import require_prefix
from envsync.agent.wire.server_operations import EnvironmentFacts
from envsync.conda.manifest_packages import package_paths
from envsync.conda.packages import list_packages
from envsync.errors import EnvsyncError, PreflightRefused, SourceRefused
from envsync.tree.revision import short


def environments(
    prefix: str,
    local: Sequence[str],
    local_of: Mapping[str, Sequence[str]],
    cache_directory: Optional[str],
) -> Iterator[EnvironmentFacts]:
    """Yield each environment of a prefix, by name.

    One that cannot be read, whose records are closed to this user, or whose live version is not on
    record yet, has its `problem` set. `local_of` maps those that the inventory lists to their
    further local paths.
    """
    require_prefix(prefix)
    for name in _live_names(prefix):
        try:
            layout = environment_layout(prefix, name)
            patterns = local_patterns(layout, local, local_of.get(name))
            facts = _environment(local_environment(layout, patterns, cache_directory))
        except (EnvsyncError, OSError) as error:
            facts = EnvironmentFacts(name, problem=error_text(error))
        if facts is not None:
            yield facts


def _live_names(prefix: str) -> List[str]:
    envs, names = os.path.join(prefix, "envs"), prefix_environments(prefix)
    if os.fsencode(envs) in names.closed:
        raise PreflightRefused(
            f"{envs} is closed to {user_name()}",
            hint=f"ask its owner, {user_name(os.stat(envs).st_uid)}",
        )
    return sorted(names.live)


def _is_one(layout: Layout) -> bool:
    """Return whether an environment is live at the name.

    One that is on record was published, even if the history by which conda knows it is gone.
    """
    if has_history(layout.path):
        return True
    return os.path.isdir(layout.live) and Records(layout).at(layout.inode() or 0) is not None


def _problem(layout: Layout) -> str:
    return "" if has_history(layout.path) else "it has no conda-meta/history: conda sees none there"


def _unrecorded(layout: Layout, inode: int) -> str:
    """Return why the live version, which is not on record, will be; "" if no switch is known.

    It is named by its source's revision, which is on the server only in the note of the switch.
    """
    if layout.interrupted() != INTENT:
        return ""
    try:
        new = find_intent(layout).new
    except DamagedIntent:
        return ""
    if new.inode != inode:
        return ""
    version = short(new.source_revision)
    if holder_at(layout) is not None:
        return f"{version} is being published; its check is not over"
    return f"the publication of {version} was interrupted; the next push there finishes it"


def _environment(environment: LocalEnvironment) -> Optional[EnvironmentFacts]:
    """Return the facts about what is live at the name, or None if that is no environment."""
    layout, records, trees = environment
    if not _is_one(layout):
        return None
    closed = closed_records(layout)
    try:
        snapshot = trees.snapshot(layout.standing())
    except SourceRefused:
        if closed is None:
            raise
        raise closed from None  # `doctor` gives this reason, too
    facts = EnvironmentFacts(
        name=layout.name,
        revision=snapshot.revision,
        totals=snapshot.totals,
        packages=len(list_packages(package_paths(snapshot.manifest()))),
        problem=_problem(layout),
    )
    if closed is not None:
        return facts._replace(problem=closed.message)
    record = records.at(snapshot.scan.inode)
    if record is not None:
        record = environment.published(record, snapshot.revision)
    else:
        facts = facts._replace(problem=_unrecorded(layout, snapshot.scan.inode) or facts.problem)
    return facts._replace(
        record=None if record is None else record_facts(record),
        drifted=record is not None and record.revision != snapshot.revision,
        generations=sum(1 for other in records.earlier() if other.inode != snapshot.scan.inode),
    )
