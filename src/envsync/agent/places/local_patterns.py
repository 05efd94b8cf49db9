"""Which paths of an environment are local, whether or not the inventory lists it."""

from __future__ import annotations

import contextlib
from typing import Optional, Sequence, Tuple

from envsync.agent.places.layout import Layout
from envsync.agent.places.records import Records


def local_patterns(
    places: Layout, shared: Sequence[str], own: Optional[Sequence[str]]
) -> Tuple[str, ...]:
    """Return the patterns of an environment's local paths: the `shared` ones and its `own`.

    `own` is None if the inventory does not list the environment, such as one that was pushed under
    another name. Then they are those with which the live version was published; none if this user
    may not read which.
    """
    if own is None:
        record = None
        with contextlib.suppress(PermissionError):
            record = Records(places).of_version(places.inode() or 0)
        own = () if record is None else record.local
    return tuple(dict.fromkeys((*shared, *own)))
