"""Requests to build and publish a version on a target."""

from __future__ import annotations

from typing import NamedTuple, Optional, Tuple


class Build(NamedTuple):
    """Asks to build what the manifest in the payload describes, or what that would take.

    The manifest is compressed if `packed`.
    """

    packed: bool = False


class AskBlocks(NamedTuple):
    """Asks for the block digests of the files in the payload; if `is_sample`, for only a few, to
    see whether block-wise transfer is worthwhile."""

    is_sample: bool


class Check(NamedTuple):
    """The environment's check, run after the switch; an empty command means none."""

    command: str = ""
    timeout_seconds: float = 60.0


class Publication(NamedTuple):
    """Asks to publish, with what the pushing end knows of the version.

    `environment_id` identifies the source (see `places.revision_history`).
    """

    source_revision: str
    source: str
    who: str
    method: str
    transport: str
    check: Check
    retry_held: bool
    changes: Tuple[str, ...] = ()
    """After a rebuild, what differs from the source because it could not be installed there."""
    overwrites_foreign: bool = False
    """Whether the live version is one that the source never had, and must be kept for good."""
    environment_id: str = ""


class GoBack(NamedTuple):
    """Asks for a rollback to generation `number`, or to the newest earlier version if None.

    With `overwrite`, even if the live version was changed by hand.
    """

    number: Optional[int]
    by: str
    overwrite: bool


class Remove(NamedTuple):
    """Asks to remove the environment; with `overwrite`, even if it was changed by hand."""

    by: str
    overwrite: bool
