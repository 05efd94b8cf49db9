"""A server's health for `doctor`: its tools, space and environments. Changes nothing."""

from __future__ import annotations

import os
import platform
import shutil
from typing import Callable, Iterator, List, Mapping, Optional, Sequence, Tuple

from envsync.agent.places.base import is_conda_prefix
from envsync.agent.places.busy_findings import live_busy_findings
from envsync.agent.places.layout import INTENT, Layout, environment_layout
from envsync.agent.places.local_environment import LocalEnvironment, local_environment
from envsync.agent.places.local_rules import local_patterns
from envsync.agent.places.locks import holder_at
from envsync.agent.places.members import closed_records
from envsync.agent.places.prefix_environments import has_history, prefix_environments
from envsync.agent.places.records import Records
from envsync.agent.server.accounts import login_shell, user_name
from envsync.agent.server.conda_tool import tools
from envsync.agent.server.cuda import driver_cuda_version
from envsync.agent.server.disk_failures import error_text
from envsync.agent.server.filesystem import existing_parent, is_noexec, mount_of, space
from envsync.agent.server.processes import are_visible
from envsync.agent.server.program_version import version_of
from envsync.agent.target.preparation import base_obstacle
from envsync.agent.wire.messages import ToolFacts
from envsync.agent.wire.server_operations import (
    HealthFacts,
    PrefixFacts,
    ServerFacts,
    StandingFacts,
)
from envsync.errors import EnvsyncError


def health(
    prefix: str,
    local: Sequence[str],
    local_of: Mapping[str, Sequence[str]],
    cache_directory: Optional[str],
    server: ServerFacts,
) -> HealthFacts:
    """Return the facts of this server. Each command asked for its version has a time limit.

    `local_of` maps the environments that the inventory lists to their further local paths.
    """

    def environment_at(layout: Layout) -> LocalEnvironment:
        patterns = local_patterns(layout, local, local_of.get(layout.name))
        return local_environment(layout, patterns, cache_directory)

    return HealthFacts(
        server=server,
        python_version=platform.python_version(),
        prefix=_prefix(prefix),
        tools=tuple(_tools(prefix)),
        cuda=driver_cuda_version(),
        environments=tuple(_standing(prefix, environment_at)),
        login_shell=os.path.basename(login_shell()),
        sees_processes=are_visible(),
    )


def _prefix(prefix: str) -> PrefixFacts:
    place = os.fsencode(prefix)
    exists = os.path.isdir(place)
    has_conda = is_conda_prefix(place)
    nearest = existing_parent(os.path.join(place, b"envs"))
    free = space(nearest)
    return PrefixFacts(
        path=prefix,
        exists=exists,
        has_conda=has_conda,
        is_writable=os.access(nearest, os.W_OK | os.X_OK),
        is_read_only=bool(os.statvfs(nearest).f_flag & os.ST_RDONLY),
        is_noexec=is_noexec(nearest),
        owner=user_name(os.stat(nearest).st_uid),
        filesystem=mount_of(nearest).kind,
        free_bytes=free.free_bytes,
        free_inodes=free.free_inodes,
        obstacle="" if has_conda else base_obstacle(prefix),
    )


def _tools(prefix: str) -> Iterator[ToolFacts]:
    for name in ("rsync", "zstd"):
        path = shutil.which(name)
        if path is not None:
            yield ToolFacts(name, path, version_of(path))
    yield from tools(prefix)


def _standing(
    prefix: str, environment_at: Callable[[Layout], LocalEnvironment]
) -> Iterator[StandingFacts]:
    try:
        names = _names(prefix)
    except OSError as error:
        yield StandingFacts("envs", "unreadable", error_text(error))
        return
    for name in names:
        try:
            layout = environment_layout(prefix, name)
            closed = closed_records(layout)
            if closed is not None:
                yield StandingFacts(name, "closed", closed.message)
                continue
            standing = StandingFacts(name, *_state(environment_at(layout)))
            # If nothing is live and no version is kept, there is only the state that a push left.
            # What a person removed is not missed there, so it does not matter what is held of it.
            if standing.state not in ("removed", "held") or standing.reason:
                yield standing
        except (EnvsyncError, OSError) as error:
            yield StandingFacts(name, "unreadable", error_text(error))


def _names(prefix: str) -> List[str]:
    """Return the environments that are live, and those of which only envsync's state is left."""
    environments = prefix_environments(prefix)
    live = {name for name in environments.live if _is_environment(prefix, name)}
    return sorted(live | environments.with_state)


def _is_environment(prefix: str, name: str) -> bool:
    """Return whether it is one for conda, or envsync keeps state beside it on another disk."""
    path = os.path.join(os.fsencode(prefix), b"envs", os.fsencode(name))
    return has_history(path) or (
        os.path.islink(path) and os.path.isdir(environment_layout(prefix, name).state)
    )


def _state(environment: LocalEnvironment) -> Tuple[str, str]:
    layout, records, trees = environment
    holder = holder_at(layout)
    if holder is not None and not holder.yields:
        return "locked", holder.who
    interrupted = layout.interrupted()
    if interrupted:
        what = "a switch" if interrupted == INTENT else "its removal"
        return "interrupted", f"{what} was interrupted"
    if os.path.lexists(layout.live) and not os.path.isdir(layout.live):
        return "blocked", f"{os.fsdecode(layout.live)} is not a directory"
    inode = layout.inode()
    if inode is None:
        # Only versions that a plain rollback may choose.
        kept = sum(not record.was_taken_back for record in records.earlier())
        if records.history.removal():
            return "removed", _counted(kept)
        # A first version that failed its check leaves nothing that one could go back to.
        return ("missing", _counted(kept)) if kept else ("held", _held(records))
    record = records.at(inode)
    if record is None:
        damaged = records.damaged()
        is_damaged = f"the record {os.fsdecode(damaged[0])} is damaged" if damaged else ""
        return ("unreadable", is_damaged) if damaged else ("unpublished", "")
    # This is cheap: what was published was hashed then.
    snapshot = trees.snapshot(layout.standing(), glance=True)
    record = environment.published(record, snapshot.revision)
    is_as_published = snapshot.revision == record.revision
    for found in live_busy_findings(snapshot.scan, layout, is_as_published=is_as_published):
        if found.blocking:
            return "busy", found.message
    if not is_as_published:
        return "changed", "it was changed there since it was published"
    return "published", _held(records) if records.held.changed_since(record.when_seconds) else ""


def _held(records: Records) -> str:
    """Return why pushes of some versions are refused, as far as it is known; empty if none is."""
    reasons = sorted({*records.held.reasons().values()})
    if not reasons:
        return ""
    return f"{'a version is' if len(reasons) == 1 else 'versions are'} held: {'; '.join(reasons)}"


def _counted(kept: int) -> str:
    if not kept:
        return ""
    return "1 earlier version is kept" if kept == 1 else f"{kept} earlier versions are kept"
