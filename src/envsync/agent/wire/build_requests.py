"""Requests to build and publish a version on a target."""

from __future__ import annotations

from typing import NamedTuple, Optional, Tuple


class Keeping(NamedTuple):
    """How many earlier versions stay: the next one is built on the first that does not."""

    keep: int


class Build(NamedTuple):
    """As `Keeping`, with a manifest in the payload, `packed` or not."""

    keep: int
    packed: bool = False


class AskBlocks(NamedTuple):
    """Asks for the blocks of the files in the payload; `is_sample` where that is to tell whether
    it is worth it."""

    is_sample: bool


class Check(NamedTuple):
    """The environment's own test, run after the switch; an empty command means none."""

    command: str = ""
    timeout_seconds: float = 60.0


class Publication(NamedTuple):
    """What a publish is told by the one who pushes."""

    source_revision: str
    source: str
    who: str
    method: str
    transport: str
    keep: int
    check: Check
    retry_held: bool
    changes: Tuple[str, ...] = ()
    """What of the source could not be had there, where it was made anew."""
    overwrites_foreign: bool = False
    """Whether what stands there is a version that the source never had: it is kept for good."""


class GoBack(NamedTuple):
    """To generation `number`, else to the newest earlier version, also over what was changed
    there where `overwrite` says so."""

    number: Optional[int]
    by: str
    overwrite: bool


class Remove(NamedTuple):
    """Let nothing stand there; also what was changed there where `overwrite` says so."""

    by: str
    overwrite: bool
