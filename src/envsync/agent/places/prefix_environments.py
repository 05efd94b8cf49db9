"""Lists the environments of a prefix."""

from __future__ import annotations

import os
from typing import FrozenSet, List, NamedTuple, Tuple

from envsync.agent.places.layout import STATE_DIRECTORY
from envsync.conda.metadata import HISTORY
from envsync.tree.environment_name import is_environment_name


class PrefixEnvironments(NamedTuple):
    """The names that environments can have in PREFIX/envs, and those that have state of envsync's.

    The latter may have only earlier versions left. `closed` are those of the two directories that
    this user may not list.
    """

    live: FrozenSet[str]
    with_state: FrozenSet[str]
    closed: Tuple[bytes, ...]

    def names(self) -> List[str]:
        """Return all names, sorted."""
        return sorted(self.live | self.with_state)


def prefix_environments(prefix: str) -> PrefixEnvironments:
    """List the environments of a prefix; OSError if a directory cannot be read, but not closed."""
    envs = os.path.join(os.fsencode(prefix), b"envs")
    closed: List[bytes] = []

    def names(directory: bytes) -> FrozenSet[str]:
        try:
            entries = os.listdir(directory)
        except (FileNotFoundError, NotADirectoryError):
            return frozenset()
        except PermissionError:
            closed.append(directory)
            return frozenset()
        return frozenset(filter(is_environment_name, map(os.fsdecode, entries)))

    live, with_state = names(envs), names(os.path.join(envs, STATE_DIRECTORY))
    return PrefixEnvironments(live, with_state, tuple(closed))


def has_history(path: bytes) -> bool:
    """Return whether conda sees an environment at this path."""
    return os.path.exists(os.path.join(path, HISTORY))
