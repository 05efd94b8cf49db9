"""A source on another server: its own agent inspects it, reads it and encodes what is sent.

Contents go from there directly to the target (`remote_direct`), or through this machine as one
stream, encoded once. A source on another server is trusted no more than a target: its manifest is
checked entry by entry, and its revision is computed here.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Collection, Container, Iterator, Sequence
from contextlib import AbstractContextManager

from envsync.agent.wire.codec import content_bytes
from envsync.agent.wire.source_operations import (
    INSPECT_SOURCE,
    OPEN_SOURCE,
    SEND_FILES,
    SOURCE_MANIFEST,
    AskManifest,
    InspectSource,
    SendFiles,
)
from envsync.errors import AgentFailed
from envsync.push.ends.remote_direct import RemoteDirect
from envsync.push.ends.requested_files import requested_files
from envsync.push.ends.source import Outlined, Source
from envsync.push.ends.source_look import SourceLook
from envsync.push.ends.source_server import SourceServer
from envsync.push.request.places import Place
from envsync.transport.job import Contents, Item, Supply, come_encoded
from envsync.tree import manifest as manifests
from envsync.tree.entry import InvalidEntry
from envsync.tree.manifest import REFERENCE_BYTES, Manifest
from envsync.tree.revision import revision_of


class RemoteSource(Source):
    """The environment being pushed, on another server."""

    is_here = False

    def __init__(
        self,
        look: SourceLook,
        server: SourceServer,
        checked: CheckedManifests,
        target_path: str = "",
    ) -> None:
        """`server` is the one that `look` asks."""
        super().__init__(look, target_path)
        self._server = server
        self._checked = checked

    def at(self, target_path: str) -> RemoteSource:
        relocated_to = self.look.relocated_to(target_path)
        return RemoteSource(self.look, self._server, self._checked, relocated_to)

    def outline(self) -> Outlined | None:
        return None

    def hashing_while_sent(self) -> AbstractContextManager[Contents, bool | None]:
        return contextlib.nullcontext(come_encoded)

    def manifest(self, known: bytes) -> bytes:
        references = (
            known[at : at + REFERENCE_BYTES] for at in range(0, len(known), REFERENCE_BYTES)
        )
        return manifests.encode(self._checked.of(self), frozenset(references))

    def items(self, paths: Sequence[bytes]) -> Collection[Item]:
        return requested_files(self._checked.of(self), paths)

    def rewritten(self) -> Container[bytes]:
        """Return nothing: no file is on this machine, and the server sends the right contents."""
        return frozenset()

    @property
    def supply(self) -> Supply:
        # Relocated files are not on the server's disk, so rsync there cannot send them.
        direct = None if self.target_path else RemoteDirect(self._server, self.look)
        return Supply(relayed=self._relayed, direct=direct)

    def _relayed(
        self, items: Collection[Item], codecs: Sequence[str], progress: Callable[[int], None]
    ) -> Iterator[bytes]:
        """Yield encoded blocks from a separate agent, so that other pushes can ask meanwhile."""
        sizes = tuple(size for _, size in items)
        paths = b"\0".join(path for path, _ in items)
        request = SendFiles(sizes, tuple(codecs), self.target_path, paths)
        with self._server.sender() as end:
            end.ask(OPEN_SOURCE, self.look.open_request)
            state = self.look.state()
            if self.target_path or state.revision_there != state.revision:
                end.ask(INSPECT_SOURCE, InspectSource())
            for block in end.receive(SEND_FILES, request):
                yield block
                progress(content_bytes(block))

    def close(self) -> None:
        self._server.close()


class CheckedManifests:
    """The source's manifests, asked for once for each version and path.

    Safe to share between threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: dict[str, Manifest] = {}

    def of(self, source: RemoteSource) -> Manifest:
        """Return the manifest. Raises `AgentFailed` if it is not of the stated revision."""
        revision = source.revision_there()
        with self._lock:
            if revision not in self._found:
                encoded = source.look.ask(SOURCE_MANIFEST, AskManifest(source.target_path))
                self._found[revision] = _checked(encoded, revision)
            return self._found[revision]


def open_remote(place: Place, name: str, local: Sequence[str]) -> RemoteSource:
    """Return the environment `name` of another server. Close it when the pushes are done."""
    server = SourceServer(place)
    try:
        look = SourceLook(server.end, place.prefix, name, local)
    except BaseException:
        server.close()
        raise
    return RemoteSource(look, server, CheckedManifests())


def _checked(encoded: bytes, revision: str) -> Manifest:
    """Return a manifest from another server.

    Raises `AgentFailed` if it breaks a rule or is not of the `revision` that was stated.
    """
    try:
        manifest = manifests.decode(encoded)
    except InvalidEntry as error:
        raise AgentFailed(f"the source's manifest is not acceptable: {error}") from error
    if revision_of(manifest) != revision:
        raise AgentFailed("the source's manifest does not match its revision")
    return manifest
