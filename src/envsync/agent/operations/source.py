"""Operations on a source."""

from __future__ import annotations

import os
from typing import List

from envsync.agent.operations.service import Answer, Request, Service
from envsync.agent.server.home import content_directory
from envsync.agent.source.source_environment import SourceEnvironment
from envsync.agent.wire.short_answers import (
    ConfirmedFacts,
    CredentialFacts,
    FindingsFacts,
    GlibcFacts,
    RememberedFacts,
    SeesFacts,
    SourceOpened,
)
from envsync.agent.wire.source_requests import (
    AskNonce,
    AskSample,
    AtPath,
    InspectSource,
    OpenSource,
    Remember,
    RunRsync,
    SendFiles,
    TryCommands,
)
from envsync.errors import AgentFailed
from envsync.files.directories import state_directory
from envsync.tree.manifest import REFERENCE_BYTES


def _open(service: Service, request: Request) -> Answer:
    opening = request.read(OpenSource)
    service.opened_source = source = SourceEnvironment(
        opening.prefix,
        opening.name,
        opening.local,
        content_directory(os.environ),
        state_directory(os.environ),
        service.helpers,
        is_base=opening.is_base,
    )
    return Answer(SourceOpened(source.place(), os.fsdecode(source.stands_at)))


def _inspect(service: Service, request: Request) -> Answer:
    def changed() -> None:
        service.tell({"changed": True})

    fresh = request.read(InspectSource).fresh
    progress = service.counted("hash")
    return Answer(service.source.inspect(progress, changed, fresh=fresh))


def _confirm(service: Service, request: Request) -> Answer:
    return Answer(ConfirmedFacts(service.source.confirm()))


def _manifest(service: Service, request: Request) -> Answer:
    """Return the manifest, with references for the directories that the payload refers to."""
    known, there = frozenset(_references(request.payload)), request.read(AtPath).there
    return Answer({}, service.source.version.encoded_manifest(known, there))


def _packages(service: Service, request: Request) -> Answer:
    from envsync.agent.staging.reuse import wanted_packages

    return Answer({}, b"\0".join(sorted(wanted_packages(service.source.version.manifest()))))


def _relocate(service: Service, request: Request) -> Answer:
    return Answer(service.source.version.relocation_facts(request.read(AtPath).there))


def _references(payload: bytes) -> List[bytes]:
    if len(payload) % REFERENCE_BYTES:
        raise AgentFailed("received an incomplete list of references")
    return [payload[at : at + REFERENCE_BYTES] for at in range(0, len(payload), REFERENCE_BYTES)]


def _findings(service: Service, request: Request) -> Answer:
    from envsync.agent.source.outside_findings import outside_findings

    found = outside_findings(service.source.version, request.read(AtPath).there)
    return Answer(FindingsFacts(tuple(found)))


def _credentials(service: Service, request: Request) -> Answer:
    from envsync.agent.source.credentials import files_with_credentials

    paths = files_with_credentials(service.source.version)
    return Answer(CredentialFacts(tuple(map(os.fsdecode, paths))))


def _requirements(service: Service, request: Request) -> Answer:
    from envsync.agent.source.requirements import source_requirements

    return Answer(source_requirements(service.source.version))


def _glibc(service: Service, request: Request) -> Answer:
    path, version = service.source.version.newest_glibc()
    return Answer(GlibcFacts(os.fsdecode(path), tuple(version)))


def _sees(service: Service, request: Request) -> Answer:
    return Answer(SeesFacts(service.source.sees(request.read(AskNonce).nonce)))


def _remember(service: Service, request: Request) -> Answer:
    problem = service.source.history.remember(request.read(Remember).revision)
    return Answer(RememberedFacts(problem))


def _readable(service: Service, request: Request) -> Answer:
    service.source.require_readable(request.payload.split(b"\0"))
    return Answer({})


def _send(service: Service, request: Request) -> Answer:
    """Stream the contents of the files in the payload, as encoded blocks."""
    from envsync.agent.source.sending import best_codec, encoded_blocks, items_of

    asked = request.read(SendFiles)
    items = items_of(request.payload, asked.sizes)
    name = best_codec(asked.codecs)
    contents = service.source.contents(items, there=asked.there)
    for block in encoded_blocks(contents, name):
        service.emit(block)
    return Answer({"codec": name})


def _reach(service: Service, request: Request) -> Answer:
    """Return whether this server can log in to another by itself, and with which command."""
    from envsync.agent.source.direct_send import reach

    return Answer(reach(request.read(TryCommands).commands))


def _rsync(service: Service, request: Request) -> Answer:
    """Have this server's own rsync send the files in the payload; its output is streamed."""
    from envsync.agent.source.direct_send import run_rsync

    ended = run_rsync(request.read(RunRsync).argv, request.payload, service.emit)
    return Answer(ended)


def _sample(service: Service, request: Request) -> Answer:
    """Return how a sample of the files in the payload compresses with `steps`, or as in `send`."""
    from envsync.agent.source.sending import items_of, own_step

    asked = request.read(AskSample)
    items = items_of(request.payload, asked.sizes)
    return Answer(service.source.sampled(items, asked.steps or [own_step(asked.codecs)]))


OPERATIONS = {
    "open": _open,
    "inspect": _inspect,
    "confirm": _confirm,
    "manifest": _manifest,
    "packages": _packages,
    "relocate": _relocate,
    "findings": _findings,
    "credentials": _credentials,
    "requirements": _requirements,
    "glibc": _glibc,
    "sees": _sees,
    "remember": _remember,
    "readable": _readable,
    "send": _send,
    "reach": _reach,
    "rsync": _rsync,
    "sample": _sample,
}
