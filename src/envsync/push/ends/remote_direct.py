"""A source on another server that sends directly to the target."""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Sequence

from envsync.agent.wire.source_operations import (
    REACH,
    RUN_RSYNC,
    ReachFacts,
    RsyncEnded,
    RunRsync,
)
from envsync.agent.wire.transfer_operations import FIND_RSYNC, RsyncFacts
from envsync.errors import EnvsyncError
from envsync.push.ends.source_look import SourceLook
from envsync.push.ends.source_server import SourceServer

_SILENCE_SECONDS = 10.0
_SILENT_TRIES_MAX = 2


class RemoteDirect:
    """A source on another server that sends directly to one target (see `Direct`).

    Each push has its own, which tries anew.
    """

    def __init__(self, server: SourceServer, look: SourceLook) -> None:
        """`server` is the one that `look` asks."""
        self._server = server
        self._look = look
        self._rsync: RsyncFacts | None = None
        self._reached: ReachFacts | None = None
        self.agent_forwarded = False

    @property
    def server(self) -> str:
        return self._look.server

    @property
    def source_path(self) -> bytes:
        return os.fsencode(self._look.state().path)

    def rsync(self) -> RsyncFacts:
        if self._rsync is None:
            self._rsync = self._look.ask(FIND_RSYNC, None)
        return self._rsync

    def reach(self, commands: Sequence[Sequence[str]]) -> ReachFacts:
        if self._reached is None:
            self._reached = self._unless_futile(tuple(map(tuple, commands)))
        return self._reached

    def _unless_futile(self, commands: tuple[tuple[str, ...], ...]) -> ReachFacts:
        """Try, unless several tries of this source ended in silence, and none succeeded.

        A firewall that drops the source's connections makes every target time out anew.
        """
        server = self._server
        if server.silent_tries >= _SILENT_TRIES_MAX and not server.has_reached:
            return ReachFacts(-1, "it got no answer from other servers either")
        began_seconds = time.monotonic()
        facts = self._tried(commands)
        was_silent = time.monotonic() - began_seconds > _SILENCE_SECONDS
        if facts.which >= 0:
            server.has_reached = True  # stored without reading: other pushes try at the same time
        server.silent_tries += facts.which < 0 and was_silent
        return facts

    def _tried(self, commands: tuple[tuple[str, ...], ...]) -> ReachFacts:
        # This may take a minute, in which other pushes have questions for the source's own agent.
        with self._server.sender() as end:
            facts = end.ask(REACH, commands)
        return facts if facts.which >= 0 else self._reach_with_agent(commands) or facts

    def _reach_with_agent(self, commands: tuple[tuple[str, ...], ...]) -> ReachFacts | None:
        """Try with the user's ssh agent; None if that is not forwarded."""
        try:
            with self._server.forwarding_sender() as end:
                if end is None:
                    return None
                self.agent_forwarded = True
                return end.ask(REACH, commands)
        except EnvsyncError as error:
            return ReachFacts(-1, error.message)

    def run(
        self, argv: Sequence[bytes], paths: Sequence[bytes]
    ) -> Generator[bytes, None, RsyncEnded]:
        request = RunRsync(tuple(map(os.fsdecode, argv)), b"\0".join(paths))
        server, forwards = self._server, self.agent_forwarded
        try:
            with server.forwarding_sender() if forwards else server.sender() as end:
                if end is None:
                    return RsyncEnded(-1, "your ssh agent is not available any more")
                return (yield from end.receive(RUN_RSYNC, request))
        except EnvsyncError as error:
            if not forwards:
                raise
            # The forwarding link is separate: its loss does not affect the other way to send.
            return RsyncEnded(-1, error.message)
