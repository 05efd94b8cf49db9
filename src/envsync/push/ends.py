"""The two ends of a push, called the same way wherever they are."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Protocol

from envsync.agent import bootstrap
from envsync.agent.channel import Channel
from envsync.agent.frames import DATA, DATA_END, FRAME_BYTES_MAX
from envsync.agent.scan import NO_HELPERS
from envsync.agent.scan_helpers import ScanHelpers
from envsync.agent.service import Service
from envsync.errors import AgentFailed, ConnectionLost, EnvsyncError, from_json
from envsync.ssh.session import Link, Session

NOISE_BYTES_MAX = 64 << 10
"""How much a server's login files may print before the agent's first word."""

# A forced command that is content, nologin, and a shell for git only.
_LOGIN_STATUS = (0, 1, 128)

Progress = Callable[[Mapping[str, Any]], None]


class Answer(NamedTuple):
    """What an operation gave: JSON-ready values and bytes."""

    document: dict[str, Any]
    payload: bytes


class End(Protocol):
    """A server's environments, local or remote.

    Contract: `call` carries out one operation of the agent and returns its answer, or
    raises the `EnvsyncError` that it ended with, `server` filled in. Not to be called from
    two threads at once. `stream` is consumed until it ends or the operation fails.
    `close` may be called at any time and more than once; a remote agent ends with it,
    unless it is finishing a switch.
    """

    @property
    def server(self) -> str: ...

    def call(
        self,
        operation: str,
        arguments: Mapping[str, Any] | None = None,
        payload: bytes = b"",
        stream: Iterable[bytes] | None = None,
        on_progress: Progress | None = None,
    ) -> Answer: ...

    def close(self) -> None: ...


def _ignore(_: Mapping[str, Any]) -> None:
    pass


class LocalEnd:
    """This machine's environments, by the agent's own code in this process."""

    def __init__(self, server: str, helpers: ScanHelpers = NO_HELPERS) -> None:
        """`helpers` scan while this interpreter has other work."""
        self._server = server
        self._progress: Progress = _ignore
        self.service = Service(self._tell, helpers)

    def _tell(self, document: Mapping[str, Any]) -> None:
        self._progress(document)

    @property
    def server(self) -> str:
        return self._server

    def call(
        self,
        operation: str,
        arguments: Mapping[str, Any] | None = None,
        payload: bytes = b"",
        stream: Iterable[bytes] | None = None,
        on_progress: Progress | None = None,
    ) -> Answer:
        blocks = iter(stream or ())
        self._progress = on_progress or _ignore
        try:
            answer = self.service.call(
                operation, dict(arguments or {}), payload, lambda: next(blocks, None)
            )
        except EnvsyncError as error:
            error.server = error.server or self._server
            raise
        finally:
            self._progress = _ignore
        return Answer(answer.document, answer.payload)

    def close(self) -> None:
        pass


class RemoteEnd:
    """A server's environments, through an agent that lives as long as this object.

    `noise` is what the server's login files printed before the agent's first word.
    """

    def __init__(self, link: Link, prefix: str) -> None:
        self._server = link.server
        self._session = link.run(bootstrap.COMMAND)
        try:
            token = "envsync-" + secrets.token_hex(16)
            python = f"{prefix}/bin/python"
            self._session.write(bootstrap.preamble(python, token))
            self.noise = _await_token(self._session, token.encode(), self._server)
            magic = _exactly(self._session, bootstrap.MAGIC_LINE_BYTES, self._server)
            self._session.write(bootstrap.modules(magic.strip()))
        except ConnectionLost as error:
            raise _explain(self._session, self._server, error) from error
        except BaseException:
            self._session.close()
            raise
        self._channel = Channel(self._session.read, self._session.write)
        self._channel.start()

    @property
    def server(self) -> str:
        return self._server

    def call(
        self,
        operation: str,
        arguments: Mapping[str, Any] | None = None,
        payload: bytes = b"",
        stream: Iterable[bytes] | None = None,
        on_progress: Progress | None = None,
    ) -> Answer:
        try:
            request = {"operation": operation, "arguments": dict(arguments or {})}
            self._channel.send_message(request, payload)
            progress = on_progress or _ignore
            answer = None if stream is None else self._send(stream, progress)
            while answer is None:
                answer = self._message(progress)
            return answer
        except EnvsyncError as error:
            error.server = error.server or self._server
            raise

    def _send(self, stream: Iterable[bytes], progress: Progress) -> Answer | None:
        """Send a stream; stops early where the answer is there already: a failure."""
        for block in stream:
            view = memoryview(block)
            for start in range(0, len(block), FRAME_BYTES_MAX):
                self._channel.send(DATA, bytes(view[start : start + FRAME_BYTES_MAX]))
            while self._channel.pending():
                answer = self._message(progress)
                if answer is not None:
                    return answer
        self._channel.send(DATA_END)
        return None

    def _message(self, progress: Progress) -> Answer | None:
        document, payload = self._channel.receive_message()
        if "progress" in document:
            progress(document["progress"])
            return None
        answer = document.get("answer")
        if not isinstance(answer, dict):
            raise AgentFailed("the agent gave no answer")
        if "error" in answer:
            raise from_json(answer["error"])
        return Answer(answer, payload)

    def close(self) -> None:
        self._channel.close()
        self._session.close()


def _await_token(session: Session, token: bytes, server: str) -> bytes:
    """Skip what login files print; the agent's own words begin after its token."""
    seen = b""
    mark = b"\n" + token + b"\n"
    while not seen.endswith(mark):
        # One byte at a time past the mark would be the agent's: so never read beyond it.
        missing = _missing(seen, mark)
        part = session.read(missing)
        if not part:
            raise ConnectionLost("the agent did not start", server=server, details=_lines(seen))
        seen += part
        if len(seen) > NOISE_BYTES_MAX + len(mark):
            raise AgentFailed(
                f"its login files print more than {NOISE_BYTES_MAX >> 10} KiB",
                hint="let ~/.bashrc and ~/.profile print only where a terminal is",
                server=server,
            )
    return seen[: -len(mark)]


def _exactly(session: Session, size: int, server: str) -> bytes:
    data = b""
    while len(data) < size:
        part = session.read(size - len(data))
        if not part:
            raise ConnectionLost("the agent did not start", server=server)
        data += part
    return data


def _missing(seen: bytes, mark: bytes) -> int:
    """How many bytes can be read without going beyond the mark, at least 1."""
    for length in range(min(len(mark), len(seen)), 0, -1):
        if seen.endswith(mark[:length]):
            return len(mark) - length
    return len(mark)


def _explain(session: Session, server: str, error: ConnectionLost) -> EnvsyncError:
    """Why an agent did not start, by the exit status of its command."""
    status = session.exit_status(5.0)
    said = session.stderr_tail().strip()
    instead = b"" if status is None else _said_instead(session)
    details = [*error.details, *_lines(instead), *said.splitlines()][-8:]
    session.close()
    if status == bootstrap.EXIT_NO_PYTHON:
        return AgentFailed(
            "there is no Python: neither in the prefix nor `python3` on the PATH",
            hint="install conda at the prefix there, or Python 3.8 or newer",
            server=server,
            details=details,
        )
    if status == bootstrap.EXIT_OLD_PYTHON:
        return AgentFailed(
            "its Python is too old: 3.8 or newer is needed",
            hint="update the conda base there",
            server=server,
            details=details,
        )
    if status is None:
        error.server = server
        return error
    if status in _LOGIN_STATUS and "Traceback" not in said:
        return AgentFailed(
            "it runs something else in place of the command that it is sent",
            hint="look for command= in authorized_keys there, ForceCommand in its sshd_config, "
            "and a login shell such as nologin",
            server=server,
            details=details,
        )
    return AgentFailed(
        f"the agent did not start (exit status {status})", server=server, details=details
    )


def _said_instead(session: Session) -> bytes:
    """What a command that is not the agent wrote to its stdout, unless it was read already."""
    said = b""
    with contextlib.suppress(ConnectionLost):
        while len(said) < NOISE_BYTES_MAX and (part := session.read(4096)):
            said += part
    return said


def _lines(said: bytes) -> list[str]:
    return [line[:200] for line in said.decode("utf-8", "replace").splitlines() if line.strip()]
