"""The remote server of a source: its link, and the agents that work there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from envsync.agent.operations import bootstrap
from envsync.errors import EnvsyncError
from envsync.push.ends.end import RemoteEnd
from envsync.push.request.places import Place


class SourceServer:
    """One link to the server, and `end`, which all pushes ask. Thread-safe, except for `end`."""

    def __init__(self, place: Place) -> None:
        """`place` must be another server."""
        assert place.open_link is not None, "another server is reached by a link"
        self._place = place
        self._links = contextlib.ExitStack()
        # What came of its own tries to reach targets: see `RemoteDirect`.
        self.silent_tries = 0
        self.has_reached = False
        try:
            self._link = self._links.enter_context(contextlib.closing(place.open_link()))
            self.end = self._links.enter_context(
                contextlib.closing(RemoteEnd(self._link, place.prefix))
            )
        except BaseException:
            self._links.close()
            raise

    def close(self) -> None:
        """End the agent and the link. May be called more than once."""
        self._links.close()

    @contextlib.contextmanager
    def sender(self) -> Iterator[RemoteEnd]:
        """Start a separate agent on the server, which lives until the block ends."""
        with contextlib.ExitStack() as stack:
            try:
                end = RemoteEnd(self._link, self._place.prefix)
            except EnvsyncError:
                # Some servers allow only one session on a connection.
                assert self._place.open_link is not None
                link = stack.enter_context(contextlib.closing(self._place.open_link()))
                end = RemoteEnd(link, self._place.prefix)
            stack.callback(end.close)
            yield end

    @contextlib.contextmanager
    def forwarding_sender(self) -> Iterator[RemoteEnd | None]:
        """Start an agent that can use the user's own ssh agent, until the block ends.

        It has a link of its own. Yields None if the user's ssh configuration does not forward the
        ssh agent.
        """
        link = self._link.with_agent_forwarding()
        if link is None:
            yield None
            return
        command = bootstrap.COMMAND_WITH_AGENT
        with (
            contextlib.closing(link),
            contextlib.closing(RemoteEnd(link, self._place.prefix, command)) as end,
        ):
            yield end
