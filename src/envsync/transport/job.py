"""The protocol of a transport, and the job that it is given."""

from __future__ import annotations

from collections.abc import (
    Callable,
    Collection,
    Container,
    Generator,
    Iterable,
    Iterator,
    Sequence,
)
from dataclasses import dataclass, replace
from typing import Protocol

from envsync.agent.wire.figures import OnFigure
from envsync.agent.wire.operation import AnswerT, Operation, RequestT
from envsync.agent.wire.source_operations import ReachFacts, RsyncEnded
from envsync.agent.wire.transfer_operations import RsyncFacts
from envsync.errors import AgentFailed
from envsync.ssh.session import Link

Item = tuple[bytes, int]
"""A file to send: its path below the environment's top, and its size in bytes."""


class Ask(Protocol):
    """Calls one operation of the target's agent (see `envsync.push.ends.end.End`)."""

    def __call__(
        self,
        operation: Operation[RequestT, AnswerT],
        request: RequestT,
        stream: Iterable[bytes] | None = None,
        on_progress: OnFigure | None = None,
    ) -> AnswerT: ...


class Contents(Protocol):
    """Reads files of the source as one uncompressed stream (see `agent.trees.outgoing`).

    `progress` is called with the files and bytes read since its last call.
    """

    def __call__(
        self, items: Collection[Item], progress: Callable[[int, int], None] | None = None
    ) -> Iterator[bytes]: ...


class Relayed(Protocol):
    """Gets files of a source on another server as encoded blocks (see `agent.wire.codec`).

    `codecs` are those that the target can decode; `progress` is called with the bytes of content
    since its last call.
    """

    def __call__(
        self, items: Collection[Item], codecs: Sequence[str], progress: Callable[[int], None]
    ) -> Iterator[bytes]: ...


class Direct(Protocol):
    """A source on another server that can possibly send to the target by itself.

    See `agent.source.direct_send`.
    """

    @property
    def server(self) -> str: ...

    @property
    def source_path(self) -> bytes:
        """The environment's path on that server."""
        ...

    def rsync(self) -> RsyncFacts:
        """Return facts about the rsync of the source's server."""
        ...

    def reach(self, commands: Sequence[Sequence[str]]) -> ReachFacts:
        """Return which of these ssh commands logs in to the target from there; tried only once.

        They are tried with that server's own keys first. If none succeeds, they are tried with
        the user's ssh agent, if the ssh configuration forwards it to that server.
        """
        ...

    @property
    def agent_forwarded(self) -> bool:
        """Whether `reach` has forwarded the user's agent; if so, `run` does too."""
        ...

    def run(
        self, argv: Sequence[bytes], paths: Sequence[bytes]
    ) -> Generator[bytes, None, RsyncEnded]:
        """Run rsync there on these files: yield what it prints, and return how it ended."""
        ...


@dataclass(frozen=True, slots=True)
class Sent:
    """The result of a transfer. `wire_bytes` is what it put on the wire, None if unknown.

    `failed` are paths whose contents arrived wrong or not at all, usually because the source
    changed. `instead` says why stream sent everything in place of another transport; empty if it
    did not.
    """

    wire_bytes: int | None
    failed: tuple[bytes, ...] = ()
    instead: str = ""

    def __add__(self, other: Sent) -> Sent:
        """Return the result of two transfers together."""
        is_known = self.wire_bytes is not None and other.wire_bytes is not None
        wire_bytes = (self.wire_bytes or 0) + (other.wire_bytes or 0)
        return Sent(wire_bytes if is_known else None, self.failed + other.failed)


def come_encoded(*_: object, **__: object) -> Iterator[bytes]:
    """Refuse to read contents: those of another server's environment cannot be read here."""
    raise AgentFailed("the contents of another server's environment cannot be read here")


@dataclass(frozen=True, slots=True)
class Supply:
    """How contents are obtained: read on this machine, or `relayed` from another server.

    `path` is where the environment is on this machine, and `contents` reads it; its calls are
    independent. If the source is on another server, neither is of use, and `direct`, if not None,
    may let it send by itself.
    """

    path: bytes = b""
    contents: Contents = come_encoded
    relayed: Relayed | None = None
    direct: Direct | None = None


@dataclass(frozen=True, slots=True)
class Receiver:
    """The target's end. `link` is None if it is this machine; `codecs` are those it can decode.

    `python` is an interpreter there, and login files there print something if `prints_at_login`.
    """

    link: Link | None
    ask: Ask
    python: str
    codecs: tuple[str, ...]
    prints_at_login: bool = False


@dataclass(frozen=True, slots=True)
class Job:
    """One transfer of files of the source into a staging tree.

    `all_fetches` is true if `items` is everything that the target asked for. `tree` is the staging
    tree's path on the target, `token` the mark in it: a late writer of an earlier push finds
    another mark and writes nothing. `on_sent` is called with the bytes of content sent since its
    last call, `on_files` with the files received since its last call, by transports that know.

    `has_versions` is true if the target can have other versions of the files at their paths.
    Paths in `rewritten` have other contents below the source's path than they must have on the
    target; theirs come from `contents` only. `is_taken` returns whether the target has begun to
    read what is sent.
    """

    supply: Supply
    target: Receiver
    items: Collection[Item]
    all_fetches: bool
    tree: str
    token: str
    limit_bits_per_second: int | None
    on_sent: Callable[[int], None]
    rewritten: Container[bytes] = frozenset()
    has_versions: bool = False
    on_files: Callable[[int], None] = lambda _: None
    is_taken: Callable[[], bool] = lambda: True

    @property
    def size_bytes(self) -> int:
        return sum(size_bytes for _, size_bytes in self.items)

    def only(self, items: Collection[Item]) -> Job:
        """Return the job for some of the items."""
        all_fetches = self.all_fetches and len(items) == len(self.items)
        return replace(self, items=items, all_fetches=all_fetches)

    def selection(self) -> bytes:
        """Return the items as the agent's operations take them; empty if it is all it asked for."""
        return b"" if self.all_fetches else b"\0".join(path for path, _ in self.items)


class Increase:
    """Reports by how much a total has grown since its last report."""

    def __init__(self, report: Callable[[int], None]) -> None:
        self._report = report
        self._reported = 0

    def up_to(self, total: int) -> None:
        """Report what exceeds the largest total so far, if anything does."""
        if total > self._reported:
            self._report(total - self._reported)
            self._reported = total


class Transport(Protocol):
    """One way to send.

    `send` writes the contents of every item at its path below `tree`, as new files, and changes
    nothing else there. The agent sets modes and mtimes and verifies the files afterwards. `send`
    can be called again for some of the items. After a failure the staging tree can hold any part
    of them, whole files or not: the next push checks what it finds. Raises `TransferFailed`,
    `Locked` if another push has begun there, `NoSpace`, `ConnectionLost`, and the agents' errors.
    Every wait in it is bounded.
    """

    @property
    def name(self) -> str: ...

    def refusal(self, job: Job) -> str | None:
        """Return why this transport cannot serve the job; None if it can."""
        ...

    def send(self, job: Job) -> Sent: ...
