"""The operation `COLLECT`, which frees disk space on a server."""

from __future__ import annotations

import contextlib
import os
import time
from typing import Iterator, List, Set

from envsync.agent.operations.service import Service, handles
from envsync.agent.places.layout import Layout, environment_layout
from envsync.agent.places.local_rules import local_patterns
from envsync.agent.places.prefix_environments import prefix_environments
from envsync.agent.server.disk_failures import error_text
from envsync.agent.server.progress import Progress
from envsync.agent.target.gc import left_to_owner, sweep
from envsync.agent.target.gc_survey import Rules
from envsync.agent.target.preparation import require_prefix
from envsync.agent.target.target import Target
from envsync.agent.target.unpacked_remains import sweep_unpacked
from envsync.agent.trees.tree_caches import Tree, sweep_caches
from envsync.agent.wire.figures import FREED_BYTES
from envsync.agent.wire.server_operations import COLLECT, Collect, GcFacts, SweepFacts
from envsync.agent.wire.target_operations import OpenTarget
from envsync.errors import EnvsyncError
from envsync.files.directories import content_directory, unpacked_directory


@handles(COLLECT)
def _gc(service: Service, order: Collect) -> GcFacts:
    require_prefix(order.prefix)
    freed = service.counted(FREED_BYTES)
    environments = prefix_environments(order.prefix)
    swept = [_closed(directory) for directory in environments.closed[:1]]
    alive: Set[Tree] = set()
    for layout in _each_once(order.prefix, environments.names()):
        try:
            swept += _swept(order, layout, service, freed)
        except (EnvsyncError, OSError) as error:
            problem = f"{layout.name}: {error_text(error)}"
            swept.append(SweepFacts(layout.name, problems=(problem,)))
        alive |= _trees(layout)
    files, size_bytes = sweep_caches(
        content_directory(os.environ), alive, time.time(), dry_run=order.dry_run
    )
    unpacked, unpacked_bytes = sweep_unpacked(unpacked_directory(os.environ), dry_run=order.dry_run)
    return GcFacts(tuple(swept), files + unpacked, size_bytes + unpacked_bytes)


def _closed(directory: bytes) -> SweepFacts:
    name = os.fsdecode(os.path.basename(directory))
    return SweepFacts(name, stays=(left_to_owner(directory),))


def _each_once(prefix: str, names: List[str]) -> Iterator[Layout]:
    """Yield the layout of each environment once."""
    envs = os.path.join(prefix, "envs")
    seen: Set[bytes] = set()
    # A link to another environment shares that one's state; sorted last, its name is not used.
    for name in sorted(names, key=lambda name: (os.path.islink(os.path.join(envs, name)), name)):
        layout = environment_layout(prefix, name)
        if layout.state not in seen:
            seen.add(layout.state)
            yield layout


def _swept(order: Collect, layout: Layout, service: Service, freed: Progress) -> List[SweepFacts]:
    if not os.path.isdir(layout.state):
        return []
    name = layout.name
    patterns = local_patterns(layout, order.local, order.local_of.get(name))
    cache = content_directory(os.environ)
    request = OpenTarget(order.prefix, name, None, order.requester)
    target = Target(request, patterns, cache, on_step=service.on_step)
    keep = order.keep_of.get(name, target.records.keep_on_record())
    keep = order.keep if keep is None else keep
    rules = Rules(keep, order.drifted, order.dry_run, time.time())
    return [sweep(target, rules, freed)]


def _trees(layout: Layout) -> Set[Tree]:
    """Return the trees of an environment that the content cache may know."""
    paths = [layout.live]
    with contextlib.suppress(OSError):
        paths += [layout.tree(os.fsdecode(name)) for name in os.listdir(layout.trees)]
    found: Set[Tree] = set()
    for path in paths:
        with contextlib.suppress(OSError):
            status = os.stat(path)
            found.add((status.st_dev, status.st_ino))
    return found
