"""The protocol of a source: the environment that is pushed, here or on another server."""

from __future__ import annotations

from collections.abc import Collection, Container, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from envsync.agent.wire.messages import SourceState
from envsync.errors import AgentFailed
from envsync.push.ends.source_answers import SourceAnswers
from envsync.push.ends.source_look import SourceLook
from envsync.transport.job import Contents, Direct, Item, Relayed
from envsync.tree.manifest import Manifest


class Outlined(NamedTuple):
    """A source that is still being hashed: its state, and its manifest without contents."""

    state: SourceState
    manifest: Manifest


def come_encoded(*_: object, **__: object) -> Iterator[bytes]:
    """The `Contents` of who has them on another server: nobody can read them here."""
    raise AgentFailed("the contents of another server's environment come encoded")


class Supply(NamedTuple):
    """How contents can be had: read on this machine, or else `relayed` from another server.

    `path` is where the environment stands here, and `contents` reads it, each call for itself.
    `direct` is how another server may send to the target by itself. (See `transport.job.Job`.)
    """

    path: bytes = b""
    contents: Contents = come_encoded
    relayed: Relayed | None = None
    direct: Direct | None = None


class Source(Protocol):
    """The environment that is pushed, as it has to be for one target.

    Contract: safe to share between threads. What is found of it is found once, for all pushes
    of a command: `look` is the same object for all that `at` gives, and so is what is asked
    once. Revisions are the source's own, at whatever path: relocation makes no other version.
    Every method but `at` and `close` may raise the `EnvsyncError` that the source's agent ended
    with. `manifest` and `items` look at the source where nobody has, and `elsewhere` is for
    after that. What comes from another server is believed only where it is what its revision
    says.
    """

    @property
    def look(self) -> SourceLook:
        """What was found where it stands."""
        ...

    @property
    def answers(self) -> SourceAnswers:
        """What it tells of that version, with paths as they are there."""
        ...

    @property
    def is_here(self) -> bool:
        """Whether it is on this machine."""
        ...

    def at(self, there: str) -> Source:
        """The same for a target where the environment will stand at that path.

        Where its files name no other path, it is sent as it is; else what is asked of it is
        answered as it has to be there. Asks nobody anything.
        """
        ...

    def outline(self) -> Outlined | None:
        """What can be sent before the files are hashed; None where they are, or where that
        cannot be told here.

        As it is where it stands: what becomes another one there is sent once more.
        """
        ...

    def hashing_while_sent(self) -> AbstractContextManager[Contents, bool | None]:
        """Until the block ends, files are hashed by who reads these `contents`, and the look waits.

        With the contents as they are where it stands, like the outline. For a source that
        several pushes read they are read as ever: none holds up the others.
        """
        ...

    def manifest(self, known: bytes) -> bytes:
        """The manifest for a target that has the directories of these references."""
        ...

    def items(self, paths: Sequence[bytes]) -> Collection[Item]:
        """The files at these paths with their sizes in bytes, by the manifest.

        `AgentFailed` for what is no file of it, and for a path that is named twice.
        """
        ...

    def elsewhere(self) -> Container[bytes]:
        """The files whose contents do not stand below `Supply.path` as they have to be there."""
        ...

    @property
    def supply(self) -> Supply:
        """How the contents of its files can be had. Each push asks anew."""
        ...

    def close(self) -> None:
        """End its agent, for all pushes. May be called from any thread, more than once."""
        ...
