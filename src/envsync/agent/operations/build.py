"""Operations that build and publish on a target."""

from __future__ import annotations

import os
from typing import Callable, Dict, NamedTuple, Tuple

from envsync.agent.operations.service import Answer, Request, Service
from envsync.agent.operations.target import manifest_of
from envsync.agent.publishing.check import Check
from envsync.agent.target.going_back import GoingBack
from envsync.agent.target.preparation import content_findings
from envsync.agent.target.publication import Publication, adopt
from envsync.agent.target.spare import make_spare, wants_spare
from envsync.agent.wire.checked_json import from_json, to_json
from envsync.agent.wire.messages import Finding, PlanFacts, StageFacts
from envsync.tree.sharing import Share


def _prepare(service: Service, request: Request) -> Answer:
    service.push.prepare(request.arguments["keep"])
    return Answer({})


def _begin_alike(service: Service, request: Request) -> Answer:
    """Before the source is hashed: build on what was published here under another name."""
    begun = service.push.begin_alike(request.arguments["keep"], service.counted("copy"))
    return Answer({"begun": begun})


def _share(service: Service, request: Request) -> Answer:
    share = from_json(Share, request.arguments)
    is_shared, warnings = service.push.share(share)
    return Answer({"is_shared": is_shared, "warnings": list(warnings)})


def _settle(service: Service, request: Request) -> Answer:
    service.push.settle(service.counted("verify"))
    return Answer({})


def _stage(service: Service, request: Request) -> Answer:
    wanted = manifest_of(service, request)
    keep = request.arguments["keep"]
    facts, fetches = service.push.stage(wanted, keep, service.counted("copy"))
    service.fetches = fetches
    findings = content_findings(wanted, os.environ.get("HOME", ""))
    staged = _facts(service, facts, findings + service.push.findings)
    return Answer(to_json(staged), b"\0".join(fetches.paths()))


def _facts(service: Service, facts: PlanFacts, findings: Tuple[Finding, ...]) -> StageFacts:
    staging = service.push.staging
    return StageFacts(facts, os.fsdecode(staging.path), staging.token, findings)


def _complete(service: Service, request: Request) -> Answer:
    snapshot = service.push.complete(service.counted("verify"))
    return Answer({"revision": snapshot.revision, "hashed_bytes": snapshot.hashed_bytes})


def _publish(service: Service, request: Request) -> Answer:
    publication = _publication(request)
    record = service.push.publish(publication)
    wanted = wants_spare(service.target, publication.keep)
    return Answer({**to_json(record), "wants_spare": wanted})


def _make_spare(service: Service, request: Request) -> Answer:
    made = make_spare(service.target, request.arguments["keep"], service.counted("copy"))
    return Answer({"made": made})


def _adopt(service: Service, request: Request) -> Answer:
    return Answer(to_json(adopt(service.target, _publication(request))))


def _rollback(service: Service, request: Request) -> Answer:
    arguments = request.arguments
    record = GoingBack(service.target).rollback(
        arguments["number"], arguments["by"], arguments["overwrite"]
    )
    return Answer(to_json(record))


def _remove(service: Service, request: Request) -> Answer:
    arguments = request.arguments
    return Answer(
        to_json(GoingBack(service.target).remove(arguments["by"], arguments["overwrite"]))
    )


class _Plain(NamedTuple):
    """The fields of a `Publication` that are plain values."""

    source_revision: str
    source: str
    who: str
    method: str
    transport: str
    keep: int
    retry_held: bool


def _publication(request: Request) -> Publication:
    check = from_json(Check, request.arguments["check"])
    plain = from_json(_Plain, request.arguments)
    changes = tuple(map(str, request.arguments.get("changes", ())))
    return Publication(check=check, changes=changes, **plain._asdict())


OPERATIONS: Dict[str, Callable[[Service, Request], Answer]] = {
    "prepare": _prepare,
    "share": _share,
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
