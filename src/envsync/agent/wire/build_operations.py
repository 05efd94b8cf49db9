"""Operations that build and publish a version on a target."""

from __future__ import annotations

from typing import NamedTuple, Optional, Tuple

from envsync.agent.wire.messages import RecordFacts, StageFacts
from envsync.agent.wire.operation import Operation
from envsync.agent.wire.target_operations import SentManifest
from envsync.tree.sharing import Share


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


class ShareFacts(NamedTuple):
    """Whether the live version is already shared as requested (possibly with nobody), and
    warnings for people."""

    is_shared: bool
    warnings: Tuple[str, ...]


class PublishFacts(NamedTuple):
    """The version that is live now; `wants_spare` if no tree is left for the next push to build
    on. `warnings` say what its check wrote into it."""

    record: RecordFacts
    wants_spare: bool
    warnings: Tuple[str, ...] = ()


PREPARE = Operation[None, None]("build.prepare")
SHARE = Operation[Optional[Share], ShareFacts]("build.share")
BEGIN_ALIKE = Operation[None, bool]("build.begin_alike")
"""Answers whether it was begun; it is not if it would not help."""
KEEP_LIVE = Operation[None, None]("build.keep_live")
"""Tells that the source never had the live version, which stays for good once it is replaced. To be
asked before anything is planned: versions that `keep` counts are built on."""
FINISH_BEGUN = Operation[None, None]("build.finish_begun")
STAGE = Operation[SentManifest, StageFacts]("build.stage")
COMPLETE = Operation[None, None]("build.complete")
PUBLISH = Operation[Publication, PublishFacts]("build.publish")
MAKE_SPARE = Operation[None, bool]("build.make_spare")
"""Answers whether one was made; none is if it would not help."""
ADOPT = Operation[Publication, RecordFacts]("build.adopt")
ROLLBACK = Operation[GoBack, RecordFacts]("build.rollback")
REMOVE = Operation[Remove, RecordFacts]("build.remove")
