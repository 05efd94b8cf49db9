"""The targets of one command: opens, reopens and closes them."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from importlib import import_module

from envsync.push.ends.end import End, LocalEnd, RemoteEnd
from envsync.push.ends.target_end import TargetEnd
from envsync.push.request.places import Destination
from envsync.push.request.settings import PushSettings
from envsync.push.steps.progress import OnProgress
from envsync.push.steps.report import Progress
from envsync.ssh.session import Link


class Targets:
    """Opens and closes the targets of one command. Safe to share between threads."""

    def __init__(self, settings: PushSettings) -> None:
        self._settings = settings
        self.command = ""
        """The command's identity in the targets' locks; set before the first target is opened."""
        self._links: set[Link] = set()
        self._lock = threading.Lock()
        self.stopped = False

    @contextlib.contextmanager
    def link(self, destination: Destination, on_progress: OnProgress) -> Iterator[Link]:
        """Open a link to a destination on another machine, until the block ends or `stop`."""
        on_progress(Progress(destination.server, "connect"))
        assert destination.open_link is not None
        link = destination.open_link()
        with self._lock:
            self._links.add(link)
            stopped = self.stopped
        if stopped:
            link.close()
        try:
            yield link
        finally:
            link.close()
            with self._lock:
                self._links.discard(link)

    def here(self, destination: Destination) -> TargetEnd:
        """Return the target on this machine: there is no link that could be lost."""
        return self._target(LocalEnd(destination.server), destination)

    def over(self, link: Link, destination: Destination) -> TargetEnd:
        """Return the target, through an agent that is started on the destination."""
        end = RemoteEnd(link, destination.prefix)
        # Load the modules for the push while the agent loads its own, which takes as long.
        import_module("envsync.push.cycle")
        return self._target(end, destination)

    @contextlib.contextmanager
    def again(self, destination: Destination) -> Iterator[TargetEnd]:
        """Open the target over a new link, until the block ends; the first one was lost."""
        if destination.open_link is None:
            with contextlib.closing(self.here(destination)) as target:
                yield target
            return
        with (
            self.link(destination, lambda _: None) as link,
            contextlib.closing(self.over(link, destination)) as target,
        ):
            yield target

    def _target(self, end: End, destination: Destination) -> TargetEnd:
        settings, prefix = self._settings, destination.prefix
        try:
            name, local = settings.name_there, settings.local
            return TargetEnd(end, prefix, name, local, settings.who, self.command)
        except BaseException:
            end.close()
            raise

    def stop(self) -> None:
        """Close every link, and each one opened from now on. May be called from any thread."""
        with self._lock:
            self.stopped = True
            links = list(self._links)
        for link in links:
            link.close()
