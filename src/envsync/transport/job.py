"""The protocol of a transport, and the job that it is given."""

from __future__ import annotations

from collections.abc import (
    Callable,
    Collection,
    Container,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from envsync.agent.wire.checked_json import Arguments
from envsync.agent.wire.short_answers import RsyncFacts
from envsync.ssh.session import Link

if TYPE_CHECKING:
    # It comes with what starts rsyncs, which most pushes never do.
    from envsync.agent.source.direct_send import ReachFacts, RsyncEnded

Item = tuple[bytes, int]
"""A file to send: its path below the environment's top, and its size in bytes."""


class Ask(Protocol):
    """Carries out one operation of the target's agent (see `envsync.push.ends.end.End`)."""

    def __call__(
        self,
        operation: str,
        arguments: Arguments | None = None,
        payload: bytes = b"",
        stream: Iterable[bytes] | None = None,
        on_progress: Callable[[Mapping[str, Any]], None] | None = None,
    ) -> Any: ...


class Contents(Protocol):
    """Reads files of the source as one uncompressed stream (see `agent.trees.outgoing`).

    `progress` gets files and bytes read since its last call.
    """

    def __call__(
        self, items: Collection[Item], progress: Callable[[int, int], None] | None = None
    ) -> Iterator[bytes]: ...


class Relayed(Protocol):
    """Gets files of a source on another server as encoded blocks (see `agent.wire.codec`).

    `codecs` are what the target can undo; `progress` gets bytes of content since its last call.
    """

    def __call__(
        self, items: Collection[Item], codecs: Sequence[str], progress: Callable[[int], None]
    ) -> Iterator[bytes]: ...


class Direct(Protocol):
    """A source on another server that may send to the target by itself
    (`agent.source.direct_send`)."""

    @property
    def server(self) -> str: ...

    @property
    def source_path(self) -> bytes:
        """Where the environment stands there."""
        ...

    def rsync(self) -> RsyncFacts:
        """The rsync of the source's server."""
        ...

    def reach(self, commands: Sequence[Sequence[str]]) -> ReachFacts:
        """Which of these ssh commands gets in from there; tried once.

        First by that server's own means; where none does, with the user's agent, if the ssh
        configuration forwards it to that server.
        """
        ...

    @property
    def agent_forwarded(self) -> bool:
        """Whether `reach` has forwarded the user's agent; `run` then does, too."""
        ...

    def run(
        self, argv: Sequence[bytes], paths: Sequence[bytes]
    ) -> Generator[bytes, None, RsyncEnded]:
        """Run rsync there on these files: what it prints, and in the end how it ended."""
        ...


@dataclass(frozen=True, slots=True)
class Sent:
    """What a transfer did. `wire_bytes` is what it put on the wire, None where unknown.

    `failed` are paths whose contents did not come right: the source changed them. `instead`:
    why the stream brought everything, where another transport could not.
    """

    wire_bytes: int | None
    failed: tuple[bytes, ...] = ()
    instead: str = ""


@dataclass(frozen=True, slots=True)
class Job:
    """One transfer: these files of the source into that staging tree.

    `all_fetches` says that `items` is everything that the target asked for. `tree` is the
    staging tree's path on the target, `token` what it was marked with: a late writer of an
    earlier push finds another one and writes nothing. `python` is an interpreter there.
    `on_sent` gets bytes of content sent since its last call, `on_files` how many files are over
    since its own, from a transport that can tell. `relayed` is where the contents
    come from if the source is on another server: then `contents` and `source_path` are of no use,
    and `direct` may be how it sends by itself.
    `has_versions` says that the target may have other versions of the files at their paths.
    What is in `elsewhere` does not stand below `source_path` as it has to be there, and can be
    had from `contents` only. `is_taken` says whether the target takes by now what is sent.
    """

    link: Link | None
    source_path: bytes
    items: Collection[Item]
    all_fetches: bool
    tree: str
    token: str
    python: str
    ask: Ask
    contents: Contents
    codecs: tuple[str, ...]
    limit_bits_per_second: int | None
    on_sent: Callable[[int], None]
    relayed: Relayed | None = None
    direct: Direct | None = None
    elsewhere: Container[bytes] = frozenset()
    has_versions: bool = False
    on_files: Callable[[int], None] = lambda _: None
    is_taken: Callable[[], bool] = lambda: True

    @property
    def size_bytes(self) -> int:
        return sum(size_bytes for _, size_bytes in self.items)

    def selection(self) -> bytes:
        """The items as the agent wants them told: nothing where it is all it asked for."""
        return b"" if self.all_fetches else b"\0".join(path for path, _ in self.items)


class Transport(Protocol):
    """One way to send.

    Contract: `send` puts the contents of every item under its path below `tree`, as new
    files, and nothing else; what is there already under other names is left alone. Modes,
    mtimes and verification are the agent's afterwards. It may be called again for some of
    the items. After a failure the staging tree may hold any part of them, whole files or
    not: the next push looks before it believes. Raises `TransferFailed`, `ConnectionLost`
    or `NoSpace`. Every wait in it is bounded.
    """

    @property
    def name(self) -> str: ...

    def refusal(self, job: Job) -> str | None:
        """Why this transport cannot serve the job; None where it can."""
        ...

    def send(self, job: Job) -> Sent: ...
