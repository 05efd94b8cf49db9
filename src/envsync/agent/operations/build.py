"""Operations that build and publish on a target."""

from __future__ import annotations

import os
from typing import Optional

from envsync.agent.operations.service import Service, handles
from envsync.agent.operations.target import manifest_of
from envsync.agent.places.members import require_open_records
from envsync.agent.target import switches
from envsync.agent.target.preparation import content_findings
from envsync.agent.target.publication import adopt, written_by_check
from envsync.agent.target.spare import make_spare, wants_spare
from envsync.agent.wire.build_operations import (
    ADOPT,
    BEGIN_ALIKE,
    COMPLETE,
    FINISH_BEGUN,
    KEEP_LIVE,
    MAKE_SPARE,
    PREPARE,
    PUBLISH,
    REMOVE,
    ROLLBACK,
    SHARE,
    STAGE,
    GoBack,
    Publication,
    PublishFacts,
    Remove,
    ShareFacts,
)
from envsync.agent.wire.figures import COPIED_BYTES, VERIFIED_BYTES
from envsync.agent.wire.messages import RecordFacts, StageFacts
from envsync.agent.wire.target_operations import SentManifest
from envsync.tree.sharing import Share


@handles(PREPARE)
def _prepare(service: Service, _: None) -> None:
    service.push.prepare()


@handles(BEGIN_ALIKE)
def _begin_alike(service: Service, _: None) -> bool:
    """Before the source is hashed, build on what was published here under another name."""
    return service.push.begin_alike(service.counted(COPIED_BYTES), service.counted(VERIFIED_BYTES))


@handles(SHARE)
def _share(service: Service, share: Optional[Share]) -> ShareFacts:
    return service.push.share(share)


@handles(KEEP_LIVE)
def _keep_live(service: Service, _: None) -> None:
    service.push.keep_live()


@handles(FINISH_BEGUN)
def _finish_begun(service: Service, _: None) -> None:
    service.push.finish_begun(service.counted(VERIFIED_BYTES))


@handles(STAGE)
def _stage(service: Service, request: SentManifest) -> StageFacts:
    wanted = manifest_of(service, request)
    staged = service.push.stage(wanted, service.counted(COPIED_BYTES))
    findings = content_findings(wanted) + staged.findings
    staging, paths = service.push.staging, b"\0".join(staged.fetches.paths())
    return StageFacts(staged.facts, os.fsdecode(staging.path), staging.token, findings, paths)


@handles(COMPLETE)
def _complete(service: Service, _: None) -> None:
    service.push.complete(service.counted(VERIFIED_BYTES))


@handles(PUBLISH)
def _publish(service: Service, request: Publication) -> PublishFacts:
    record = service.push.publish(request)
    warnings = written_by_check(service.target) if request.check.command else ()
    return PublishFacts(record, wants_spare(service.target), warnings)


@handles(MAKE_SPARE)
def _make_spare(service: Service, _: None) -> bool:
    return make_spare(service.target, service.counted(COPIED_BYTES))


@handles(ADOPT)
def _adopt(service: Service, request: Publication) -> RecordFacts:
    return adopt(service.target, request)


@handles(ROLLBACK)
def _rollback(service: Service, request: GoBack) -> RecordFacts:
    require_open_records(service.target.layout)
    return switches.rollback(service.target, request.number, request.by, request.overwrite)


@handles(REMOVE)
def _remove(service: Service, request: Remove) -> RecordFacts:
    return switches.remove(service.target, request.by, request.overwrite)
