"""The operation `COLLECT`, which frees disk space on a server."""

from __future__ import annotations

import contextlib
import os
import time
from typing import Iterator, List, Optional, Set

from envsync.agent.operations.service import Service, handles
from envsync.agent.places.layout import layout
from envsync.agent.places.local_patterns import local_patterns
from envsync.agent.places.prefix_environments import prefix_environments
from envsync.agent.server.home import content_directory
from envsync.agent.server.progress import OnStep
from envsync.agent.target.gc import Rules, left_to_owner, sweep
from envsync.agent.target.preparation import require_prefix
from envsync.agent.target.target import Target
from envsync.agent.trees.cache_names import Tree
from envsync.agent.trees.cache_sweep import sweep_cache
from envsync.agent.trees.storage import words
from envsync.agent.wire.messages import GcFacts, SweepFacts
from envsync.agent.wire.server_operations import COLLECT, Collect
from envsync.errors import EnvsyncError


@handles(COLLECT)
def _gc(service: Service, order: Collect) -> GcFacts:
    require_prefix(order.prefix)
    now_seconds = time.time()
    freed = service.counted("freed")
    cache = content_directory(os.environ)
    environments = prefix_environments(order.prefix)
    swept = [_closed(directory) for directory in environments.closed[:1]]
    alive: Set[Tree] = set()
    for target in _targets(order, environments.names(), cache, service.tell_step):
        keep = order.keep_of.get(target.name, target.records.keep())
        keep = order.keep if keep is None else keep
        if os.path.isdir(target.places.state):
            rules = Rules(keep, order.drifted, order.dry_run, now_seconds)
            try:
                swept.append(sweep(target, rules, freed))
            except (EnvsyncError, OSError) as error:
                problem = f"{target.name}: {words(error)}"
                swept.append(SweepFacts(target.name, problems=(problem,)))
        alive |= _trees(target)
    files, size_bytes = sweep_cache(cache, alive, now_seconds, dry_run=order.dry_run)
    return GcFacts(tuple(swept), files, size_bytes)


def _closed(directory: bytes) -> SweepFacts:
    name = os.fsdecode(os.path.basename(directory))
    return SweepFacts(name, stays=(left_to_owner(directory),))


def _targets(
    order: Collect, names: List[str], cache: Optional[str], on_step: OnStep
) -> Iterator[Target]:
    """Yield each environment once."""
    envs = os.path.join(order.prefix, "envs")
    seen: Set[bytes] = set()
    # A link to another environment shares that one's state; sorted last, its name is not used.
    for name in sorted(names, key=lambda name: (os.path.islink(os.path.join(envs, name)), name)):
        places = layout(order.prefix, name)
        patterns = local_patterns(places, order.local, order.local_of.get(name))
        target = Target(order.prefix, name, patterns, cache, order.by, on_step=on_step)
        target.lock.of_command(order.command, order.server)
        if target.places.state not in seen:
            seen.add(target.places.state)
            yield target


def _trees(target: Target) -> Set[Tree]:
    """Return the trees of an environment that the content cache may know."""
    paths = [target.places.live]
    with contextlib.suppress(OSError):
        paths += [target.places.tree(os.fsdecode(n)) for n in os.listdir(target.places.trees)]
    found: Set[Tree] = set()
    for path in paths:
        with contextlib.suppress(OSError):
            status = os.stat(path)
            found.add((status.st_dev, status.st_ino))
    return found
