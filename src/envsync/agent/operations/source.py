"""Operations on a source."""

from __future__ import annotations

import os
from typing import List, Tuple

from envsync.agent.operations.service import Service, handles
from envsync.agent.source.source_environment import SourceEnvironment
from envsync.agent.wire.figures import HASHED_BYTES, SOURCE_CHANGED
from envsync.agent.wire.messages import SourceState
from envsync.agent.wire.source_operations import (
    CONFIRM_SOURCE,
    FILES_WITH_CREDENTIALS,
    INSPECT_SOURCE,
    NEWEST_GLIBC,
    OPEN_SOURCE,
    OUTSIDE_PATHS,
    REACH,
    RELOCATION,
    REMEMBER_REVISION,
    REQUIRE_READABLE,
    RUN_RSYNC,
    SAMPLE,
    SEES_NONCE,
    SEND_FILES,
    SOURCE_MANIFEST,
    SOURCE_PACKAGES,
    AskManifest,
    AskSample,
    GlibcFacts,
    InspectSource,
    OpenSource,
    OutsidePath,
    ReachFacts,
    RelocationFacts,
    RsyncEnded,
    RunRsync,
    SampleFacts,
    SendFiles,
    SourceOpened,
)
from envsync.errors import AgentFailed
from envsync.files.directories import content_directory, state_directory
from envsync.tree import manifest as manifests
from envsync.tree.manifest import REFERENCE_BYTES


@handles(OPEN_SOURCE)
def _open(service: Service, request: OpenSource) -> SourceOpened:
    service.opened_source = source = SourceEnvironment(
        request.prefix,
        request.name,
        request.local,
        content_directory(os.environ),
        state_directory(os.environ),
        service.helpers,
    )
    return SourceOpened(source.identity(), os.fsdecode(source.stands_at))


@handles(INSPECT_SOURCE)
def _inspect(service: Service, request: InspectSource) -> SourceState:
    def changed() -> None:
        service.tell(SOURCE_CHANGED, 1)

    counted = service.counted(HASHED_BYTES)
    return service.source.inspect(
        counted, changed, fresh=request.fresh, target_path=request.target_path
    )


@handles(CONFIRM_SOURCE)
def _confirm(service: Service, _: None) -> bool:
    return service.source.confirm()


@handles(SOURCE_MANIFEST)
def _manifest(service: Service, request: AskManifest) -> bytes:
    """Return the manifest, with references for the directories that the payload refers to."""
    known = frozenset(_references(request.payload))
    return manifests.encode(service.source.version.manifest(request.target_path), known)


def _references(payload: bytes) -> List[bytes]:
    if len(payload) % REFERENCE_BYTES:
        raise AgentFailed("received an incomplete list of references")
    return [payload[at : at + REFERENCE_BYTES] for at in range(0, len(payload), REFERENCE_BYTES)]


@handles(SOURCE_PACKAGES)
def _packages(service: Service, _: None) -> bytes:
    from envsync.conda.manifest_packages import metadata_paths

    return b"\0".join(sorted(metadata_paths(service.source.version.manifest())))


@handles(RELOCATION)
def _relocation(service: Service, target_path: str) -> RelocationFacts:
    return service.source.version.relocation_facts(target_path)


@handles(OUTSIDE_PATHS)
def _outside_paths(service: Service, target_path: str) -> Tuple[OutsidePath, ...]:
    from envsync.agent.source.outside_paths import outside_paths

    return outside_paths(service.source.version, target_path)


@handles(FILES_WITH_CREDENTIALS)
def _credentials(service: Service, _: None) -> Tuple[str, ...]:
    from envsync.agent.source.credentials import files_with_credentials

    return tuple(map(os.fsdecode, files_with_credentials(service.source.version)))


@handles(NEWEST_GLIBC)
def _glibc(service: Service, with_packages: bool) -> GlibcFacts:
    path, version = service.source.version.newest_glibc(with_packages=with_packages)
    return GlibcFacts(os.fsdecode(path), tuple(version))


@handles(SEES_NONCE)
def _sees(service: Service, nonce: str) -> bool:
    return service.source.sees(nonce)


@handles(REMEMBER_REVISION)
def _remember(service: Service, revision: str) -> str:
    return service.source.history.remember(revision)


@handles(REQUIRE_READABLE)
def _readable(service: Service, paths: bytes) -> None:
    service.source.require_readable(paths.split(b"\0"))


@handles(SEND_FILES)
def _send(service: Service, request: SendFiles) -> None:
    from envsync.agent.source.sending import best_codec, encoded_blocks, items_of

    items = items_of(request.payload, request.sizes)
    contents = service.source.contents(items, target_path=request.target_path)
    for block in encoded_blocks(contents, best_codec(request.codecs)):
        service.emit(block)


@handles(REACH)
def _reach(_: Service, commands: Tuple[Tuple[str, ...], ...]) -> ReachFacts:
    """Return whether this server can log in to another by itself, and with which command."""
    from envsync.agent.source.direct_send import reach

    return reach(commands)


@handles(RUN_RSYNC)
def _rsync(service: Service, request: RunRsync) -> RsyncEnded:
    """Have this server's own rsync send the files in the payload; its output is streamed."""
    from envsync.agent.source.direct_send import run_rsync

    return run_rsync(request.argv, request.payload, service.emit)


@handles(SAMPLE)
def _sample(service: Service, request: AskSample) -> SampleFacts:
    """Return what the files in the payload come to with `steps`, or as in `send`."""
    from envsync.agent.source.sending import items_of, own_step

    items = items_of(request.payload, request.sizes)
    steps = request.steps or [own_step(request.codecs)]
    return service.source.sampled(items, steps, target_path=request.target_path)
