"""An end of a push, with the same calls for this machine and for a server."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any, Protocol

from envsync.agent.operations import bootstrap
from envsync.agent.operations.service import Service
from envsync.agent.server.helper_processes import NO_HELPERS, HelperProcesses
from envsync.agent.wire.channel import Channel
from envsync.agent.wire.figures import OnFigure
from envsync.agent.wire.frames import DATA, DATA_END, FRAME_BYTES_MAX
from envsync.agent.wire.operation import AnswerT, Operation, RequestT, encode
from envsync.errors import AgentFailed, ConnectionLost, EnvsyncError, about, error_from_json
from envsync.push.ends.agent_start import start_agent
from envsync.push.request.places import Place
from envsync.ssh.session import Link

_Message = tuple[Any, bytes]
"""An answer as it arrived: JSON, and the bytes beside it."""


AGENT_SILENCE_SECONDS = 6 * 3600.0
"""How long an agent may send no message. One at work reports its progress; only a check
(`check_timeout`) and a tool of a rebuild may be silent for long."""


class End(Protocol):
    """A server's environments, local or remote.

    Contract: `ask` carries out one operation of the agent and returns its answer, or raises the
    `EnvsyncError` that ended it, with `server` filled in. Its cause is a `ConnectionLost` if the
    agent ended by itself, without an answer. It must not be called from two threads at once.
    `stream` is consumed until it ends or the operation fails; an exception that it raises is
    passed on and names the server that it came from. `close` may be called at any time and more
    than once; a remote agent ends with it, unless it is finishing a switch.
    """

    @property
    def server(self) -> str: ...

    @property
    def link(self) -> Link | None:
        """The link to its server; None for this machine."""
        ...

    @property
    def noise(self) -> bytes:
        """What the server's login files printed before the agent's first byte."""
        ...

    def ask(
        self,
        operation: Operation[RequestT, AnswerT],
        request: RequestT,
        stream: Iterable[bytes] | None = None,
        on_progress: OnFigure | None = None,
    ) -> AnswerT: ...

    def close(self) -> None: ...


def _is_count(value: object) -> bool:
    """Return whether `value` is a number that can be shown; JSON's may have thousands of digits."""
    return type(value) is int and 0 <= value < 1 << 63


def _ignore(_figure: str, _value: int) -> None:
    pass


class LocalEnd:
    """This machine's environments, through the agent's own code in this process."""

    link = None
    noise = b""

    def __init__(self, server: str, helpers: HelperProcesses = NO_HELPERS) -> None:
        """`helpers` take part in its scans and copies."""
        self.server = server
        self._progress: OnFigure = _ignore
        self._blocks: Iterator[bytes] = iter(())
        self.service = Service(self._tell, helpers, stream=lambda: next(self._blocks, None))

    def _tell(self, figure: str, value: int) -> None:
        self._progress(figure, value)

    def ask(
        self,
        operation: Operation[RequestT, AnswerT],
        request: RequestT,
        stream: Iterable[bytes] | None = None,
        on_progress: OnFigure | None = None,
    ) -> AnswerT:
        self._blocks = iter(stream or ())
        self._progress = on_progress or _ignore
        try:
            with about(self.server):
                return self.service.ask(operation, request)
        finally:
            self._progress = _ignore
            self._blocks = iter(())

    def close(self) -> None:
        self.service.close()


class RemoteEnd:
    """A server's environments, through an agent that lives as long as this object."""

    def __init__(self, link: Link, prefix: str, command: str = bootstrap.COMMAND) -> None:
        """`command` is one of those in `agent.operations.bootstrap`."""
        self.server = link.server
        self.link = link
        self._calls = 0
        self._session, self.noise, self.python_failure = start_agent(link, prefix, command)
        self._channel = Channel(
            self._session.read, self._session.write, patience_seconds=AGENT_SILENCE_SECONDS
        )
        self._channel.start()

    def ask(
        self,
        operation: Operation[RequestT, AnswerT],
        request: RequestT,
        stream: Iterable[bytes] | None = None,
        on_progress: OnFigure | None = None,
    ) -> AnswerT:
        progress = on_progress or _ignore
        with self._speaking():
            self._request(operation, request)
        message = None if stream is None else self._send(stream, progress)
        with self._speaking():
            return operation.decode_answer(*(message or self._answer(progress)))

    def receive(
        self, operation: Operation[RequestT, AnswerT], request: RequestT
    ) -> Generator[bytes, None, AnswerT]:
        """Carry out an operation that streams: yield its data, then return its answer.

        Raises the same errors as `ask`. A caller that stops early has to close the end: the agent
        goes on sending.
        """
        with self._speaking():
            self._request(operation, request)
            while True:
                data = self._channel.receive_data()
                if data is None:
                    break
                yield data
            return operation.decode_answer(*self._answer(_ignore))

    @contextlib.contextmanager
    def _speaking(self) -> Iterator[None]:
        """Attribute every error inside to this server, whichever one its agent names.

        If the agent ended by itself, the error says why.
        """
        try:
            yield
        except ConnectionLost as lost:
            from envsync.push.ends.agent_end import why_ended

            error = why_ended(self._session, lost)
            error.server = self.server
            raise error from (lost if error is not lost else lost.__cause__)
        except EnvsyncError as error:
            error.server = self.server
            raise

    def _request(self, operation: Operation[RequestT, AnswerT], request: RequestT) -> None:
        self._calls += 1
        document, payload = encode(request)
        message = {"operation": operation.name, "request": document, "number": self._calls}
        self._channel.send_message(message, payload)

    def _send(self, stream: Iterable[bytes], progress: OnFigure) -> _Message | None:
        """Send a stream; stop early if an answer is there already, which means a failure.

        Errors raised by the stream itself keep their server: it is the source's.
        """
        for block in stream:
            with self._speaking():
                message = self._send_block(block, progress)
            if message is not None:
                return message
        with self._speaking():
            self._channel.send(DATA_END)
        return None

    def _send_block(self, block: bytes, progress: OnFigure) -> _Message | None:
        # A slice of the whole block is no copy.
        for start in range(0, len(block), FRAME_BYTES_MAX):
            self._channel.send(DATA, block[start : start + FRAME_BYTES_MAX])
        while self._channel.pending():
            message = self._message(progress)
            if message is not None:
                return message
        return None

    def _answer(self, progress: OnFigure) -> _Message:
        """Wait for the answer, undecoded, and report progress meanwhile."""
        while (message := self._message(progress)) is None:
            pass
        return message

    def _message(self, progress: OnFigure) -> _Message | None:
        """Return the next answer, undecoded; None after a message of progress."""
        document, payload = self._channel.receive_message()
        figures = document.get("progress")
        if isinstance(figures, dict):
            for figure, value in figures.items():
                if _is_count(value):
                    progress(figure, value)
            return None
        if document.get("number") == self._calls and "error" in document:
            raise error_from_json(document["error"])
        if document.get("number") != self._calls or "answer" not in document:
            raise AgentFailed("the agent sent no answer to the request")
        return document["answer"], payload

    def close(self) -> None:
        self._channel.close()
        self._session.close()


@contextlib.contextmanager
def opened(link: Link, prefix: str, command: str = bootstrap.COMMAND) -> Iterator[RemoteEnd]:
    """Start an agent over a link; the link is closed with it when the block ends."""
    with contextlib.closing(link), contextlib.closing(RemoteEnd(link, prefix, command)) as end:
        yield end


def open_end(place: Place) -> AbstractContextManager[End]:
    """Open the end of a place, until the block ends."""
    if place.open_link is None:
        return contextlib.closing(LocalEnd(place.server))
    return opened(place.open_link(), place.prefix)
