"""The targets of one command: opens, reopens and closes them."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module

from envsync.errors import EnvsyncError
from envsync.push.ends.end import End, LocalEnd, RemoteEnd
from envsync.push.ends.target_end import TargetEnd, open_request
from envsync.push.request.places import Destination
from envsync.push.request.settings import PushSettings
from envsync.push.steps.progress import ProgressTracker
from envsync.ssh.session import Link


class Targets:
    """Opens and closes the targets of one command. Safe to share between threads."""

    def __init__(self, settings: PushSettings, command: str) -> None:
        """`command` identifies the command in the targets' locks (see `command_locks`)."""
        self._settings = settings
        self._command = command
        self._links: dict[Link, str] = {}
        self._switching: set[str] = set()
        self._lock = threading.Lock()
        self._reported = threading.Condition(self._lock)
        self.stopped = False

    @contextlib.contextmanager
    def opened(
        self, destination: Destination, progress: ProgressTracker | None = None
    ) -> Iterator[TargetEnd]:
        """Open a target until the block ends; `stop` closes the link to one on another machine.

        Without `progress`, nobody is shown what it does.
        """
        with contextlib.ExitStack() as stack:
            if destination.open_link is None:
                end: End = LocalEnd(destination.server)
            else:
                if progress is not None:
                    progress.begin("connect")
                link = stack.enter_context(self._linked(destination.server, destination.open_link))
                end = RemoteEnd(link, destination.prefix)
                # Load the modules for the push while the agent loads its own, which takes as long.
                import_module("envsync.push.cycle")
            stack.callback(end.close)
            yield TargetEnd(
                end,
                open_request(self._settings, destination.prefix, self._command),
                before_switch=partial(self._begin_switch, destination.server),
            )

    @contextlib.contextmanager
    def _linked(self, server: str, open_link: Callable[[], Link]) -> Iterator[Link]:
        """Open a link to another machine, until the block ends or `stop`."""
        link = open_link()
        with self._lock:
            self._links[link] = server
            is_stopped = self._is_stopped(server)
        if is_stopped:
            link.close()
        try:
            yield link
        finally:
            link.close()
            with self._lock:
                del self._links[link]

    def stop(self) -> None:
        """Close every link, and each one opened from now on. May be called from any thread.

        The links to servers that were asked to switch stay, to hear what became of it.
        """
        with self._lock:
            self.stopped = True
            links = [link for link, server in self._links.items() if self._is_stopped(server)]
        for link in links:
            link.close()

    def is_stopped(self, server: str) -> bool:
        """Return whether `stop` ended the push to a server."""
        with self._lock:
            return self._is_stopped(server)

    def _is_stopped(self, server: str) -> bool:
        return self.stopped and server not in self._switching

    def _begin_switch(self, server: str) -> None:
        with self._lock:
            if self.stopped:
                raise EnvsyncError("the push was stopped before the switch")
            self._switching.add(server)

    def outcome_reported(self, server: str) -> None:
        """Note that the outcome of the push to a server is known, and was reported."""
        with self._lock:
            self._switching.discard(server)
            self._reported.notify_all()

    def await_switches(self, seconds: float) -> None:
        """Wait for the outcome at each server that was asked to switch, but no longer than this."""
        with self._reported:
            self._reported.wait_for(lambda: not self._switching, seconds)

    def switching(self) -> list[str]:
        """Return the servers that were asked to switch and whose outcome was not reported."""
        with self._lock:
            return sorted(self._switching)
