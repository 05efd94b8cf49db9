"""Operations that look at a target."""

from __future__ import annotations

import os
import sys

from envsync.agent.operations.service import Answer, Request, Service
from envsync.agent.places.layout import require_live
from envsync.agent.places.members import require_open_records
from envsync.agent.places.staging_note import find_staging
from envsync.agent.server.home import content_directory
from envsync.agent.target.target import Target, record_facts
from envsync.agent.wire.build_requests import Build
from envsync.agent.wire.checked_json import to_json
from envsync.agent.wire.codec import decodable, decode_all
from envsync.agent.wire.frames import PAYLOAD_BYTES_MAX
from envsync.agent.wire.short_answers import (
    ExistingFacts,
    FindingsFacts,
    GenerationsFacts,
    HolderFacts,
    ReferencesFacts,
    TargetOpened,
    UseFacts,
)
from envsync.agent.wire.target_requests import (
    AskDifferences,
    AskExisting,
    AskReferences,
    InspectTarget,
    OpenTarget,
)
from envsync.errors import AgentFailed
from envsync.tree import manifest as manifests
from envsync.tree.entry import InvalidEntry
from envsync.tree.manifest import Manifest


def _open(service: Service, request: Request) -> Answer:
    opening = request.read(OpenTarget)
    service.opened_target = target = Target(
        opening.prefix,
        opening.name,
        opening.local,
        content_directory(os.environ),
        opening.by,
        service.helpers,
        is_base=opening.is_base,
    )
    target.keep = opening.keep
    target.lock.of_command(opening.command, opening.server)
    target.on_step = service.tell_step
    return Answer(TargetOpened(sys.executable))


def _inspect(service: Service, request: Request) -> Answer:
    asked = request.read(InspectTarget)

    def beside() -> None:
        # The source has changed: it is about to be pushed.
        if asked.looks_ahead:
            service.push.prepare_beside()
            service.target.trees.read_ahead()

    with service.target.trees.storing_later():
        state = service.target.inspect(
            lock=asked.lock,
            source=asked.source,
            progress=service.counted("hash"),
            beside=beside,
        )
    return Answer(state)


def _locked_for(service: Service, request: Request) -> Answer:
    return Answer(HolderFacts(service.target.lock.held_for()))


def _using(service: Service, request: Request) -> Answer:
    return Answer(UseFacts(service.target.using()))


def _references(service: Service, request: Request) -> Answer:
    """Return what a manifest may refer to; the payload names the packages that it will have.

    The caller is about to send: that is when it is worth loading the codecs and looking at what
    will be built on.
    """
    if request.read(AskReferences).looks_ahead:
        service.push.prepare_beside()
    packages = frozenset(request.payload.split(b"\0")) if request.payload else frozenset()
    has_most = service.target.refer_to(packages)
    base = service.target.base_manifest()
    has_begun = find_staging(service.target.places) is not None
    facts = ReferencesFacts(has_most, has_begun, decodable())
    return Answer(facts, b"".join(manifests.references(base)))


def _differences(service: Service, request: Request) -> Answer:
    from envsync.agent.target.queries import differences

    asked = request.read(AskDifferences)
    if not request.payload:
        require_open_records(service.target.places)
    other = manifest_of(service, request, packed=asked.packed) if request.payload else None
    return Answer(differences(service.target, other, asked.paths_max, asked.records))


def _dry_plan(service: Service, request: Request) -> Answer:
    from envsync.agent.target.preparation import content_findings
    from envsync.agent.target.queries import dry_plan

    wanted = manifest_of(service, request, packed=request.read(Build).packed)
    facts, fetches, built_on = dry_plan(service.target, wanted)
    service.fetches = fetches
    service.push.would_build_on(built_on)
    found = FindingsFacts(content_findings(wanted))
    return Answer({**to_json(facts), **to_json(found)}, b"\0".join(fetches.paths()))


def _verify(service: Service, request: Request) -> Answer:
    from envsync.agent.target.queries import verify

    require_open_records(service.target.places)
    return Answer(verify(service.target, service.counted("verify")))


def _history(service: Service, request: Request) -> Answer:
    require_open_records(service.target.places)
    records = service.target.records
    events, kept = records.history(), records.kept()
    if not events and not kept:
        require_live(service.target.places)
    generations = GenerationsFacts(tuple(map(record_facts, kept)))
    return Answer({"events": events, **to_json(generations)})


def manifest_of(service: Service, request: Request, *, packed: bool) -> Manifest:
    """Return the source's manifest in a request's payload, after checking every rule."""
    data = request.payload
    if packed:
        data = decode_all(data, PAYLOAD_BYTES_MAX)
    try:
        return manifests.decode(data, service.target.base_manifest())
    except InvalidEntry as error:
        raise AgentFailed(f"the source's manifest is not acceptable: {error}") from error


def _existing(service: Service, request: Request) -> Answer:
    # A relative path starts from some directory of the environment, and is not looked for.
    paths = request.read(AskExisting).paths
    found = tuple(os.path.isabs(path) and os.path.exists(path) for path in paths)
    return Answer(ExistingFacts(found))


OPERATIONS = {
    "open": _open,
    "inspect": _inspect,
    "locked_for": _locked_for,
    "existing": _existing,
    "using": _using,
    "references": _references,
    "differences": _differences,
    "dry_plan": _dry_plan,
    "verify": _verify,
    "history": _history,
}
