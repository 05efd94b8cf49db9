"""Operations that build and publish on a target."""

from __future__ import annotations

import os

from envsync.agent.operations.service import Answer, Request, Service
from envsync.agent.operations.target import manifest_of
from envsync.agent.places.members import require_open_records
from envsync.agent.target.preparation import content_findings
from envsync.agent.target.publication import adopt
from envsync.agent.target.spare import make_spare, wants_spare
from envsync.agent.target.switches import TargetSwitches
from envsync.agent.wire.build_requests import Build, GoBack, Publication, Remove
from envsync.agent.wire.messages import PublishFacts, StageFacts
from envsync.agent.wire.short_answers import DoneFacts, ShareFacts
from envsync.tree.sharing import Share


def _prepare(service: Service, _: Request) -> Answer:
    service.push.prepare()
    return Answer({})


def _begin_alike(service: Service, _: Request) -> Answer:
    """Before the source is hashed, build on what was published here under another name."""
    return Answer(DoneFacts(service.push.begin_alike(service.counted("copy"))))


def _share(service: Service, request: Request) -> Answer:
    return Answer(ShareFacts(*service.push.share(request.read(Share))))


def _unshare(service: Service, _: Request) -> Answer:
    return Answer(ShareFacts(*service.push.share(None)))


def _settle(service: Service, request: Request) -> Answer:
    service.push.settle(service.counted("verify"))
    return Answer({})


def _stage(service: Service, request: Request) -> Answer:
    wanted = manifest_of(service, request, packed=request.read(Build).packed)
    facts, fetches = service.push.stage(wanted, service.counted("copy"))
    service.fetches = fetches
    findings = content_findings(wanted) + service.push.findings
    staging = service.push.staging
    staged = StageFacts(facts, os.fsdecode(staging.path), staging.token, findings)
    return Answer(staged, b"\0".join(fetches.paths()))


def _complete(service: Service, request: Request) -> Answer:
    snapshot = service.push.complete(service.counted("verify"))
    return Answer({"revision": snapshot.revision, "hashed_bytes": snapshot.hashed_bytes})


def _publish(service: Service, request: Request) -> Answer:
    record = service.push.publish(request.read(Publication))
    return Answer(PublishFacts(record, wants_spare(service.target)))


def _make_spare(service: Service, _: Request) -> Answer:
    return Answer(DoneFacts(make_spare(service.target, service.counted("copy"))))


def _adopt(service: Service, request: Request) -> Answer:
    return Answer(adopt(service.target, request.read(Publication)))


def _rollback(service: Service, request: Request) -> Answer:
    require_open_records(service.target.places)
    return Answer(TargetSwitches(service.target).rollback(*request.read(GoBack)))


def _remove(service: Service, request: Request) -> Answer:
    return Answer(TargetSwitches(service.target).remove(*request.read(Remove)))


OPERATIONS = {
    "prepare": _prepare,
    "share": _share,
    "unshare": _unshare,
    "begin_alike": _begin_alike,
    "settle": _settle,
    "stage": _stage,
    "complete": _complete,
    "publish": _publish,
    "make_spare": _make_spare,
    "adopt": _adopt,
    "rollback": _rollback,
    "remove": _remove,
}
