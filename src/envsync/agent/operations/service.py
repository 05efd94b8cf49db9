"""Requests and answers: the one interface to an end, in this process or across a session.

A request names an operation and has JSON arguments and perhaps a payload; so has its answer. The
same class serves the local end directly and a remote end through a channel.

Modules that an operation needs are imported when it is first called: a push that finds nothing to
do never loads the half of the agent that builds and publishes.
"""

from __future__ import annotations

import importlib
import time
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    Collection,
    Dict,
    NamedTuple,
    Optional,
    Tuple,
    Type,
    TypeVar,
)

from envsync.agent.server.helper_processes import NO_HELPERS, HelperProcesses
from envsync.agent.trees.storage import storage_failure
from envsync.agent.wire.checked_json import from_json, to_json
from envsync.errors import AgentFailed

if TYPE_CHECKING:
    from envsync.agent.source.source_environment import SourceEnvironment
    from envsync.agent.staging.side_build import SideBuild
    from envsync.agent.target.push import TargetPush
    from envsync.agent.target.target import Target
    from envsync.tree.entry import Entry

PROGRESS_SECONDS = 0.2

T = TypeVar("T")
Arguments = Dict[str, Any]
Tell = Callable[[Dict[str, Any]], None]
Emit = Callable[[bytes], None]
Stream = Callable[[], Optional[bytes]]
Pending = Callable[[], bool]


class Answer(NamedTuple):
    """The result of an operation: bytes, and values, of which `Service.call` makes JSON."""

    document: Any
    payload: bytes = b""


class Request(NamedTuple):
    """The parameters of an operation.

    `stream` returns data until None; it does not wait if some is `pending`.
    """

    arguments: Arguments
    payload: bytes
    stream: Stream
    pending: Pending

    def read(self, cls: Type[T]) -> T:
        """Return the arguments as the class `cls`. Raises `AgentFailed` if they do not fit."""
        return from_json(cls, self.arguments)


_OPERATIONS: Dict[str, str] = {
    "hello": "server",
    "health": "server",
    "list": "server",
    "source": "source",
    "target": "target",
    "build": "build",
    "transfer": "transfer",
    "gc": "gc",
    "rebuild": "rebuild",
}
"""The module of `envsync.agent.operations` for the part of an operation's name before the dot."""


def _no_emission(_: bytes) -> None:
    raise AgentFailed("this end cannot send a stream")


class Service:
    """An end.

    `tell` is called with progress while an operation runs, `emit` with data that it streams.
    `source`, `target` and `push` are what earlier operations opened.
    """

    def __init__(
        self,
        tell: Tell = lambda _: None,
        helpers: HelperProcesses = NO_HELPERS,
        emit: Emit = _no_emission,
    ) -> None:
        self.tell = tell
        self.emit = emit
        self.helpers = helpers
        self.opened_source: Optional[SourceEnvironment] = None
        self.opened_target: Optional[Target] = None
        self._push: Optional[TargetPush] = None
        self.build: Optional[SideBuild] = None
        self.fetches: Collection[Tuple[bytes, Entry]] = ()

    def call(
        self,
        operation: str,
        arguments: Arguments,
        payload: bytes = b"",
        stream: Stream = lambda: None,
        pending: Pending = lambda: True,
    ) -> Answer:
        """Carry out one operation. Raises `EnvsyncError`, and OSError that is no disk trouble."""
        handler = _handler(operation)
        try:
            answer = handler(self, Request(arguments, payload, stream, pending))
            return answer._replace(document=to_json(answer.document))
        except (KeyError, TypeError, ValueError) as error:
            raise AgentFailed(f"{operation}: {type(error).__name__}: {error}") from error
        except OSError as error:
            failure = storage_failure(error)
            if failure is None:
                raise
            raise failure from error

    @property
    def source(self) -> SourceEnvironment:
        if self.opened_source is None:
            raise AgentFailed("no source was opened")
        return self.opened_source

    @property
    def target(self) -> Target:
        if self.opened_target is None:
            raise AgentFailed("no target was opened")
        return self.opened_target

    @property
    def push(self) -> TargetPush:
        """The push to the open target; the first access begins it."""
        if self._push is None:
            from envsync.agent.target.push import TargetPush

            self._push = TargetPush(self.target)
        return self._push

    def leave(self) -> None:
        """Close, because nothing more will be asked, unless a push has begun.

        Parts of such a push may still be at work: they and its lock end with the process.
        """
        is_begun = self._push is not None and self._push.is_begun
        if not is_begun and self.build is None:
            self.close()

    def close(self) -> None:
        """Release a push's lock and end what runs; then do the work that no answer waited for.

        May be called more than once.
        """
        if self.opened_target is not None:
            self.opened_target.lock.release()
            self.opened_target.trees.close()

    def tell_step(self, step: str) -> None:
        self.tell({"step": step})

    def counted(self, what: str) -> Callable[[int], None]:
        """Return a progress callback that reports at most a few times a second."""
        total_bytes, told = 0, 0.0

        def add(size_bytes: int) -> None:
            nonlocal total_bytes, told
            total_bytes += size_bytes
            now = time.monotonic()
            if now - told >= PROGRESS_SECONDS:
                told = now
                self.tell({what + "_bytes": total_bytes})

        return add


def _handler(operation: str) -> Callable[[Service, Request], Answer]:
    group, _, name = operation.partition(".")
    module_name = _OPERATIONS.get(group)
    if module_name is None:
        raise AgentFailed(f"unknown operation: {operation!r}")
    module = importlib.import_module("envsync.agent.operations." + module_name)
    handler: Optional[Callable[[Service, Request], Answer]] = module.OPERATIONS.get(name or group)
    if handler is None:
        raise AgentFailed(f"unknown operation: {operation!r}")
    return handler
