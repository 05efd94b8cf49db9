"""The protocol of a source: the environment being pushed, on this machine or another server."""

from __future__ import annotations

from collections.abc import Collection, Container, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from envsync.agent.wire.messages import SourceState
from envsync.push.ends.source_answers import SourceAnswers
from envsync.push.ends.source_look import SourceLook
from envsync.transport.job import Contents, Item, Supply
from envsync.tree.manifest import Manifest


class Outlined(NamedTuple):
    """A source that is still being hashed: its state, and its manifest without contents."""

    state: SourceState
    manifest: Manifest


class Source(Protocol):
    """The environment being pushed, as it has to be for one target.

    Contract: safe to share between threads. The source is inspected once for all pushes of a
    command: all objects that `at` returns share one `look`, and what is asked once. Revisions are
    the source's own, at whatever path: relocation makes no other version. Every method but `at` and
    `close` may raise the `EnvsyncError` that ended the source's agent. `manifest` and `items`
    inspect the source if nobody has; `rewritten` must be called after that. Data from another
    server is accepted only if it agrees with its revision.
    """

    @property
    def look(self) -> SourceLook:
        """What was found at the source's own path."""
        ...

    @property
    def answers(self) -> SourceAnswers:
        """What the source answers about that version, with paths as on the target."""
        ...

    @property
    def is_here(self) -> bool:
        """Whether the source is on this machine."""
        ...

    def at(self, target_path: str) -> Source:
        """Return this source for a target where the environment will be at `target_path`.

        If no file of it can name another path, it is sent unchanged; otherwise its answers are
        those for `target_path`. Makes no request.
        """
        ...

    def outline(self) -> Outlined | None:
        """Return what can be sent before the files are hashed; None if they are, or if unknown.

        The outline has the files as they are on the source: those that relocation changes are sent
        once more.
        """
        ...

    def hashing_while_sent(self) -> AbstractContextManager[Contents, bool | None]:
        """Let the reader of these `contents` hash the files; the look waits until the block ends.

        Like the outline's, the contents are as they are on the source. If several pushes read the
        source, contents are read as usual, so that no push delays the others.
        """
        ...

    def manifest(self, known: bytes) -> bytes:
        """Return the manifest for a target that has the directories of the references `known`."""
        ...

    def items(self, paths: Sequence[bytes]) -> Collection[Item]:
        """Return the files at these paths with their sizes in bytes, from the manifest.

        Raises `AgentFailed` for a path that is not a file of the manifest or is named twice.
        """
        ...

    def rewritten(self) -> Container[bytes]:
        """Return the files whose contents below `Supply.path` are not those for the target."""
        ...

    @property
    def supply(self) -> Supply:
        """How the contents of the files are obtained. Each push gets its own."""
        ...

    def close(self) -> None:
        """End the source's agent, for all pushes. May be called from any thread, more than once."""
        ...
