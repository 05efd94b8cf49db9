"""The agent as a process on a server: requests from stdin, answers to stdout.

It ends with its input, or when it has received nothing for a minute: then it stops writing within a
tenth of a second, and the kernel drops its locks. Only two things are finished first: what follows
a switch and, once the lock is released, storing what is to be remembered of a hashed tree.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from typing import Any, Dict, NoReturn, Optional, Tuple

from envsync.agent.operations.fewer_collections import collect_rarely
from envsync.agent.operations.helper_work import carry_out
from envsync.agent.operations.service import Service
from envsync.agent.server.helper_processes import HelperProcesses
from envsync.agent.server.limits import reached_limit
from envsync.agent.server.progress import RECOVERED, SWITCH
from envsync.agent.wire.channel import Channel
from envsync.agent.wire.frames import CONTROL, DATA, DATA_END, write_all
from envsync.errors import AgentFailed, ConnectionLost, EnvsyncError, LimitReached
from envsync.texts.redaction import redacted_json

EXIT_LOST, EXIT_FAILED = 75, 1
"""Exit statuses: the other side has gone; an error ended it, as it would any other Python."""
PIPE_BYTES = 1 << 20
_LAST_ANSWER_SECONDS = 0.1


def main() -> None:
    """Serve until the input ends. Called by the bootstrap with stdin at the first frame."""
    collect_rarely()
    helpers = HelperProcesses.fork(carry_out)
    for number in (signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    source, sink = _private_descriptors()
    Process(source, sink, helpers).serve()


def _private_descriptors() -> Tuple[int, int]:
    """Return the session's two descriptors, out of reach of code that prints or reads."""
    source, sink = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(2, 1)
    os.close(null)
    return source, sink


class Process:
    def __init__(self, source: int, sink: int, helpers: HelperProcesses) -> None:
        self._channel = Channel(
            lambda size: os.read(source, min(size, PIPE_BYTES)),
            lambda data: write_all(sink, data),
            self._lost,
        )
        self._service = Service(
            self._tell, helpers, self._emit, self._stream, self._channel.pending, self._on_step
        )
        self._decisive = threading.Lock()
        self._is_switching = self._has_switched = False
        self._gone: Optional[Exception] = None
        self._waits = threading.Event()

    def serve(self) -> None:
        self._channel.start()
        while True:
            self._waits.set()
            try:
                request, payload = self._channel.receive_message()
            except Exception as error:  # noqa: BLE001  (it may be the channel's: see `_exit`)
                self._gone = error
            self._waits.clear()
            if self._gone is not None:
                self._service.leave()
                self._exit()
            self._answer(request, payload)

    def _exit(self) -> NoReturn:
        """End; if it was not the other side that has gone, stderr says why."""
        if self._gone is None or isinstance(self._gone, EnvsyncError):
            os._exit(EXIT_LOST)
        try:
            import traceback

            traceback.print_exception(type(self._gone), self._gone, self._gone.__traceback__)
            sys.stderr.flush()
        finally:
            os._exit(EXIT_FAILED)

    def _lost(self, error: Exception) -> None:
        """End, because nobody listens any more, unless a switch is being finished.

        The loss of a peer that left after its answer may be noticed while `serve` is still busy
        with the answer, so it is given a moment.
        """
        self._gone = error
        if self._waits.wait(_LAST_ANSWER_SECONDS):
            return  # `serve` notices it, too
        if self._decisive.acquire(blocking=False):
            self._exit()
        self._service.say_alone()

    def _on_step(self, step: str) -> None:
        if step == SWITCH and not self._is_switching:
            # From here to the record, nothing but the machine itself may stop this process.
            self._decisive.acquire()
            self._is_switching = self._has_switched = True
        elif step == RECOVERED:
            self._end_switching()
            if self._gone is not None:
                self._exit()

    def _tell(self, figure: str, value: int) -> None:
        try:
            self._channel.send(CONTROL, json.dumps({"progress": {figure: value}}).encode())
        except ConnectionLost:
            if not self._is_switching:
                raise

    def _emit(self, data: bytes) -> None:
        self._channel.send(DATA, data)

    def _answer(self, request: Dict[str, Any], payload: bytes) -> None:
        try:
            message, answer_payload = self._carry_out(request, payload)
        finally:
            self._end_switching()
            self._has_switched = False
        # The request's number, so that no answer is mistaken for another's.
        message["number"] = request.get("number")
        try:
            self._channel.send_message(message, answer_payload)
        except ConnectionLost:
            os._exit(EXIT_LOST)

    def _end_switching(self) -> None:
        if self._is_switching:
            self._is_switching = False
            self._decisive.release()

    def _carry_out(self, request: Dict[str, Any], payload: bytes) -> Tuple[Dict[str, Any], bytes]:
        """Return the message with the answer, or with the error in place of one."""
        try:
            name, document = request["operation"], request["request"]
            answer, answer_payload = self._service.answer(name, document, payload)
        except EnvsyncError as error:
            return {"error": redacted_json(error.to_wire())}, b""
        except Exception as error:  # noqa: BLE001  (told to the other side; the agent goes on)
            import traceback

            lines = traceback.format_exc().splitlines()
            stands = "the live environment is untouched"
            if self._has_switched:
                stands = "`envsync list` shows which version is there, complete"
            text, limit = f"{type(error).__name__}: {error}", reached_limit(error)
            failure: EnvsyncError
            if limit is not None:
                details = [text] if limit.is_certain else lines[-12:]
                failure = LimitReached(f"{limit.text}; {stands}", details=details)
            else:
                hint = f"please report this; {stands}"
                failure = AgentFailed(text, details=lines[-12:], hint=hint)
            return {"error": redacted_json(failure.to_wire())}, b""
        return {"answer": answer}, answer_payload

    def _stream(self) -> Optional[bytes]:
        frame = self._channel.receive()
        if frame.kind == DATA:
            return frame.data
        if frame.kind == DATA_END:
            return None
        raise AgentFailed("the other side does not speak the protocol")
