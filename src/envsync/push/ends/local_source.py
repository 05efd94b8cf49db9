"""A source on this machine, inspected and read by the agent's own code in this process."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection, Container, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from envsync.agent.server.disk_failures import space_guard
from envsync.agent.server.helper_processes import NO_HELPERS, HelperProcesses
from envsync.agent.wire.source_operations import SOURCE_MANIFEST, AskManifest
from envsync.errors import about
from envsync.push.ends.end import LocalEnd
from envsync.push.ends.requested_files import requested_files
from envsync.push.ends.source import Outlined, Source
from envsync.push.ends.source_look import SourceLook
from envsync.push.request.places import Place
from envsync.transport.job import Contents, Item, Supply

if TYPE_CHECKING:
    from envsync.agent.source.source_environment import SourceEnvironment


class LocalSource(Source):
    """The environment being pushed, on this machine."""

    is_here = True

    def __init__(self, look: SourceLook, agent: SourceEnvironment, target_path: str = "") -> None:
        """`agent` answers for `look`."""
        super().__init__(look, target_path)
        self._agent = agent

    def at(self, target_path: str) -> LocalSource:
        return LocalSource(self.look, self._agent, self.look.relocated_to(target_path))

    def outline(self) -> Outlined | None:
        if len(os.fsencode(self.target_path)) > len(os.fsencode(self.look.path_known_as)):
            # A file without room for the longer path stops the push before anything is sent, and
            # which files those are is not known yet.
            return None
        found = self._agent.outline()
        return None if found is None else Outlined(*found)

    @contextlib.contextmanager
    def hashing_while_sent(self) -> Iterator[Contents]:
        if self.look.serves_several:
            yield self._named(self._agent.contents)
            return
        with self._agent.hashing_while_sent() as contents:
            yield self._named(contents)

    def manifest(self, known: bytes) -> bytes:
        self.look.state()
        return self.look.ask(SOURCE_MANIFEST, AskManifest(self.target_path, known))

    def items(self, paths: Sequence[bytes]) -> Collection[Item]:
        self.look.state()
        return requested_files(self._agent.version.manifest(self.target_path), paths)

    def rewritten(self) -> Container[bytes]:
        return self._agent.version.rewritten(self.target_path)

    @property
    def supply(self) -> Supply:
        contents = self._named(partial(self._agent.contents, target_path=self.target_path))
        return Supply(self._agent.path, contents)

    def _named(self, contents: Contents) -> Contents:
        """Wrap `contents` so that its failures name this machine, not whoever reads them."""

        def named(
            items: Collection[Item], progress: Callable[[int, int], None] | None = None
        ) -> Iterator[bytes]:
            with about(self.look.server), space_guard():
                yield from contents(items, progress)

        return named

    def had(self) -> tuple[str, ...]:
        """Return the revisions that this source has had, as far as this machine knows."""
        return tuple(self._agent.history.revisions())

    def close(self) -> None:
        self.look.close()


def open_local(
    place: Place, name: str, local: Sequence[str], helpers: HelperProcesses = NO_HELPERS
) -> LocalSource:
    """Return the environment `name` of a place on this machine.

    `local` are the globs of paths that are not sent (`tree.local`). The environment need not exist
    until it is inspected.
    """
    return source_of(LocalEnd(place.server, helpers), place.prefix, name, local)


def source_of(end: LocalEnd, prefix: str, name: str, local: Sequence[str]) -> LocalSource:
    """Return the source at an `end` that is open already and has no other source."""
    return LocalSource(SourceLook(end, prefix, name, local), end.service.source)
