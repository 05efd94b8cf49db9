"""Operations that look at a target."""

from __future__ import annotations

import os
import sys
from typing import Tuple

from envsync.agent.operations.service import Service, handles
from envsync.agent.places.layout import environment_layout, require_live
from envsync.agent.places.local_rules import local_patterns
from envsync.agent.places.members import require_open_records
from envsync.agent.places.staging_note import find_staging
from envsync.agent.target.inspection import record_facts
from envsync.agent.target.preparation import content_findings, require_prefix
from envsync.agent.target.target import Target
from envsync.agent.wire.codec import decodable, decode_all
from envsync.agent.wire.figures import HASHED_BYTES, VERIFIED_BYTES
from envsync.agent.wire.frames import PAYLOAD_BYTES_MAX
from envsync.agent.wire.messages import ProcessUse, StageFacts, TargetState
from envsync.agent.wire.target_operations import (
    DIFFERENCES,
    DRY_PLAN,
    EXISTING,
    INSPECT_TARGET,
    LOCKED_FOR,
    OPEN_TARGET,
    REFERENCES,
    RUIN,
    TARGET_HISTORY,
    USING,
    VERIFY,
    AskDifferences,
    AskReferences,
    DifferenceFacts,
    History,
    InspectTarget,
    OpenTarget,
    ReferencesFacts,
    SentManifest,
    VerifyFacts,
)
from envsync.errors import AgentFailed
from envsync.files.directories import content_directory
from envsync.tree import manifest as manifests
from envsync.tree.entry import InvalidEntry
from envsync.tree.local import DEFAULT_LOCAL
from envsync.tree.manifest import Manifest


@handles(OPEN_TARGET)
def _open(service: Service, request: OpenTarget) -> str:
    local = request.local
    if local is None:
        require_prefix(request.prefix)
        local = local_patterns(
            environment_layout(request.prefix, request.name), DEFAULT_LOCAL, None
        )
    cache = content_directory(os.environ)
    service.opened_target = Target(request, local, cache, service.helpers, service.on_step)
    return sys.executable


@handles(INSPECT_TARGET)
def _inspect(service: Service, request: InspectTarget) -> TargetState:
    def meanwhile() -> None:
        # The source has changed: it is about to be pushed.
        if request.looks_ahead:
            service.push.search_ahead()
            service.target.trees.searches.read_ahead()

    with service.target.trees.storing_later():
        return service.target.inspect(
            lock=request.lock,
            source=request.source,
            progress=service.counted(HASHED_BYTES),
            meanwhile=meanwhile,
        )


@handles(LOCKED_FOR)
def _locked_for(service: Service, _: None) -> str:
    return service.target.lock.held_for()


@handles(USING)
def _using(service: Service, _: None) -> Tuple[ProcessUse, ...]:
    return service.target.using()


@handles(REFERENCES)
def _references(service: Service, request: AskReferences) -> ReferencesFacts:
    """Return what a manifest may refer to; the payload names the packages that it will have.

    The caller is about to send: that is when it is worth loading the codecs and looking at what
    will be built on.
    """
    if request.looks_ahead:
        service.push.search_ahead()
    packages = frozenset(request.payload.split(b"\0")) if request.payload else frozenset()
    has_most = bool(packages) and service.push.refer_to(packages)
    references = b"".join(manifests.references(service.base_manifest()))
    has_begun = find_staging(service.target.layout) is not None
    return ReferencesFacts(has_most, has_begun, decodable(), references)


@handles(DIFFERENCES)
def _differences(service: Service, request: AskDifferences) -> DifferenceFacts:
    from envsync.agent.target.queries import differences

    other = None
    if request.payload:
        other = manifest_of(service, SentManifest(request.payload, request.packed))
    else:
        require_open_records(service.target.layout)
    return differences(service.target, other, request.paths_max, request.records)


@handles(RUIN)
def _ruin(service: Service, request: SentManifest) -> str:
    return service.push.ruin(manifest_of(service, request))


@handles(DRY_PLAN)
def _dry_plan(service: Service, request: SentManifest) -> StageFacts:
    wanted = manifest_of(service, request)
    preview = service.push.preview(wanted)
    paths = b"\0".join(preview.fetches.paths())
    findings, ruin = content_findings(wanted), service.push.ruin(wanted)
    return StageFacts(preview.facts, "", "", findings, paths, ruin)


@handles(VERIFY)
def _verify(service: Service, _: None) -> VerifyFacts:
    from envsync.agent.target.queries import verify

    require_open_records(service.target.layout)
    return verify(service.target, service.counted(VERIFIED_BYTES))


@handles(TARGET_HISTORY)
def _history(service: Service, _: None) -> History:
    require_open_records(service.target.layout)
    records = service.target.records
    events, kept, held = records.history.events(), records.earlier(), records.held.reasons()
    if not events and not kept and not held:
        require_live(service.target.layout)
    return History(tuple(events), tuple(map(record_facts, kept)), held)


def manifest_of(service: Service, sent: SentManifest) -> Manifest:
    """Return a source's manifest as it was sent, after checking every rule."""
    data = decode_all(sent.payload, PAYLOAD_BYTES_MAX) if sent.packed else sent.payload
    try:
        return manifests.decode(data, service.base_manifest())
    except InvalidEntry as error:
        raise AgentFailed(f"the source's manifest is not acceptable: {error}") from error


@handles(EXISTING)
def _existing(_: Service, paths: Tuple[str, ...]) -> Tuple[bool, ...]:
    # A relative path starts from some directory of the environment, and is not looked for.
    return tuple(os.path.isabs(path) and os.path.exists(path) for path in paths)
