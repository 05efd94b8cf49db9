"""Carries out operations: the one interface to an end, in this process or across a session.

Each is a value of `agent.wire`, by which its handler is registered here. The same class serves the
local end directly, and a remote end by messages.

Modules that an operation needs are imported when it is first asked for: a push that finds nothing
to do never loads the half of the agent that builds and publishes.
"""

from __future__ import annotations

import importlib
import time
from typing import TYPE_CHECKING, Any, Callable, Dict, Optional, Tuple

from envsync.agent.server.disk_failures import space_guard
from envsync.agent.server.helper_processes import NO_HELPERS, HelperProcesses
from envsync.agent.server.progress import OnStep, Progress
from envsync.agent.wire.figures import OnFigure
from envsync.agent.wire.operation import AnswerT, Operation, RequestT, encode
from envsync.errors import AgentFailed

if TYPE_CHECKING:
    from envsync.agent.source.source_environment import SourceEnvironment
    from envsync.agent.staging.side_build import SideBuild
    from envsync.agent.target.push import TargetPush
    from envsync.agent.target.target import Target
    from envsync.tree.manifest import Manifest

_TELL_SECONDS = 0.2

Stream = Callable[[], Optional[bytes]]

_MODULES = ("server", "source", "target", "build", "transfer", "gc", "rebuild")
"""Those of `envsync.agent.operations` that register handlers."""

_Handler = Callable[["Service", RequestT], AnswerT]

_registered: Dict[str, Tuple[Operation[Any, Any], _Handler[Any, Any]]] = {}


def handles(
    operation: Operation[RequestT, AnswerT],
) -> Callable[[_Handler[RequestT, AnswerT]], _Handler[RequestT, AnswerT]]:
    """Register a function as what carries out the operation."""

    def register(handler: _Handler[RequestT, AnswerT]) -> _Handler[RequestT, AnswerT]:
        _registered[operation.name] = operation, handler
        return handler

    return register


def _no_emission(_: bytes) -> None:
    raise AgentFailed("this end cannot send a stream")


class Service:
    """An end.

    `tell` is called with figures while an operation runs, `on_step` with the steps of a switch, and
    `emit` with data that it streams.
    `stream` returns the data that comes with a request until None; it does not wait if some is
    `pending`. `source`, `target` and `push` are what earlier operations opened.
    """

    def __init__(
        self,
        tell: OnFigure = lambda _figure, _value: None,
        helpers: HelperProcesses = NO_HELPERS,
        emit: Callable[[bytes], None] = _no_emission,
        stream: Stream = lambda: None,
        pending: Callable[[], bool] = lambda: True,
        on_step: OnStep = lambda _: None,
    ) -> None:
        self.tell = tell
        self.emit = emit
        self.stream = stream
        self.pending = pending
        self.on_step = on_step
        self.helpers = helpers
        self.opened_source: Optional[SourceEnvironment] = None
        self.opened_target: Optional[Target] = None
        self._push: Optional[TargetPush] = None
        self.build: Optional[SideBuild] = None

    def ask(self, operation: Operation[RequestT, AnswerT], request: RequestT) -> AnswerT:
        """Carry out one operation. Raises `EnvsyncError`, and OSError that is no disk trouble."""
        _, handler = _operation(operation.name)
        try:
            with space_guard():
                answer: AnswerT = handler(self, request)
        except (KeyError, TypeError, ValueError) as error:
            raise AgentFailed(f"{operation.name}: {type(error).__name__}: {error}") from error
        return answer

    def answer(self, name: str, document: Any, payload: bytes) -> Tuple[Any, bytes]:
        """Carry out the operation of that name with the request in a message: JSON and bytes.

        Returns the answer as another message. Raises what `ask` raises.
        """
        operation, _ = _operation(name)
        return encode(self.ask(operation, operation.decode_request(document, payload)))

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

    def base_manifest(self) -> Manifest:
        """Return the manifest that the source's manifest can refer to."""
        live = self.target.live
        return self.push.base_manifest if live is None else live.manifest()

    def say_alone(self) -> None:
        """Tell whoever meets the lock that nobody waits for the answer. Safe in any thread."""
        if self.opened_target is not None:
            self.opened_target.lock.say_alone()

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

    def counted(self, figure: str) -> Progress:
        """Return a progress callback that tells the sum, at most a few times a second."""
        total_bytes, tell_total = 0, self.tell_seldom(figure)

        def add(size_bytes: int) -> None:
            nonlocal total_bytes
            total_bytes += size_bytes
            tell_total(total_bytes)

        return add

    def tell_seldom(self, figure: str) -> Callable[[int], None]:
        """Return a callback that tells what it is given, but at most a few times a second."""
        last_seconds = 0.0

        def tell(value: int) -> None:
            nonlocal last_seconds
            now_seconds = time.monotonic()
            if now_seconds - last_seconds >= _TELL_SECONDS:
                last_seconds = now_seconds
                self.tell(figure, value)

        return tell


def _operation(name: str) -> Tuple[Operation[Any, Any], _Handler[Any, Any]]:
    """Return the operation of that name and its handler; their module is imported now."""
    module = name.partition(".")[0]
    if module in _MODULES:
        importlib.import_module("envsync.agent.operations." + module)
    if name not in _registered:
        raise AgentFailed(f"unknown operation: {name!r}")
    return _registered[name]
