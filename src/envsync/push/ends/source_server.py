"""The remote server of a source: its link, and the agents that work there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from envsync.agent.operations import bootstrap
from envsync.errors import EnvsyncError
from envsync.push.ends.end import RemoteEnd, opened
from envsync.push.request.places import Place


class SourceServer:
    """One link to the server, and `end`, which all pushes ask. Thread-safe, except for `end`."""

    def __init__(self, place: Place) -> None:
        """`place` must be another server."""
        assert place.open_link is not None, "another server is reached by a link"
        self._open_link = place.open_link
        self._prefix = place.prefix
        # What came of its own tries to reach targets: see `RemoteDirect`.
        self.silent_tries = 0
        self.has_reached = False
        self._opened = contextlib.ExitStack()
        self.end = self._opened.enter_context(opened(self._open_link(), self._prefix))

    def close(self) -> None:
        """End the agent and the link. May be called more than once."""
        self._opened.close()

    @contextlib.contextmanager
    def sender(self) -> Iterator[RemoteEnd]:
        """Start a separate agent on the server, which lives until the block ends."""
        with contextlib.ExitStack() as stack:
            try:
                own = RemoteEnd(self.end.link, self._prefix)
                end = stack.enter_context(contextlib.closing(own))
            except EnvsyncError:
                # Some servers allow only one session on a connection.
                end = stack.enter_context(opened(self._open_link(), self._prefix))
            yield end

    @contextlib.contextmanager
    def forwarding_sender(self) -> Iterator[RemoteEnd | None]:
        """Start an agent that can use the user's own ssh agent, until the block ends.

        It has a link of its own. Yields None if the user's ssh configuration does not forward the
        ssh agent.
        """
        link = self.end.link.with_agent_forwarding()
        if link is None:
            yield None
            return
        with opened(link, self._prefix, bootstrap.COMMAND_WITH_AGENT) as end:
            yield end
