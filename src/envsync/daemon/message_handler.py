"""What children say of sources and servers, taken into the book."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from envsync.daemon import transitions, triggers
from envsync.daemon.install_check import Look
from envsync.daemon.log import Log
from envsync.daemon.sync_state import Book
from envsync.daemon.triggers import AT_REST, Activity
from envsync.daemon.worker_pool import AtWork, broken

REFUSED_MAX_SECONDS = 300.0

_ORDINARY = transitions.UNREACHABLE | {"locked"}
"""Why no spare tree is made somewhere, where that needs no word."""


@dataclass(slots=True)
class Kept:
    """One environment as the keeper sees it."""

    path: str
    look: Look
    local: tuple[str, ...] = ()
    """What was not pushed of it when it was adopted last."""
    activity: Activity = AT_REST
    is_changed: bool = False
    """It came to rest after a change, and has not been pushed since."""
    refusals: int = 0
    known_by: int = 0
    """The number of the order by which its revision became known."""
    digest: str = ""
    """Of the glance before its last scan that went well."""
    glanced: str = ""
    """Of a glance whose scan is still to come."""
    spared: set[str] = field(default_factory=set)
    """The servers that have a tree for the next push, as far as one can be made."""
    not_spared: set[str] = field(default_factory=set)
    """Those of them where it came to nothing: tried again after the next rescan."""
    spare_told: dict[str, str] = field(default_factory=dict)
    """What was said last of why there is none, by server."""
    ready: AtWork | None = None
    """The child that was made ready to push it."""

    def wants_spare(self, server: str) -> None:
        """A push left nothing there for the next one."""
        self.spared.discard(server)
        self.spare_told.pop(server, None)

    def try_spares_again(self) -> None:
        """Where one came to nothing, it may be had by now."""
        self.spared -= self.not_spared
        self.not_spared.clear()


class Hearing:
    """`hint` is told of a source that was found changed; `clock` gives monotonic seconds.

    What is heard of a spare tree goes to the log alone: it is nobody's state.
    """

    def __init__(
        self,
        book: Book,
        log: Log,
        kept: Mapping[str, Kept],
        hint: Callable[[str], None],
        clock: Callable[[], float],
    ) -> None:
        self._book = book
        self._log = log
        self._kept = kept
        self._hint = hint
        self._clock = clock

    def heard(self, work: AtWork, document: Mapping[str, Any]) -> None:
        """One document of a child."""
        name = str(document.get("environment", ""))
        if name not in self._kept or name not in work.order.environments:
            return
        error, report = document.get("error"), document.get("report")
        if isinstance(document.get("glance"), str):
            self._glanced(work, name, document)
            return
        work.heard.add(name)
        if work.order.makes_spare:
            if isinstance(error, dict):
                self._no_spare(name, work, error)
        elif isinstance(error, dict):
            work.source_failed = True
            self._source_failed(name, error)
        elif isinstance(report, dict):
            self._reported(work, name, report)
        elif isinstance(document.get("revision"), str):
            self._source_is(work, name, document["revision"])

    def _reported(self, work: AtWork, name: str, report: Mapping[str, Any]) -> None:
        server = str(report.get("server", ""))
        work.reported.add(server)
        if server in work.moved:
            return
        if transitions.is_of_the_source(report):
            work.source_failed = True
            self._source_failed(name, report["error"])
        if report.get("wants_spare"):
            self._kept[name].wants_spare(server)
        self._book.reported(name, report)

    def _glanced(self, work: AtWork, name: str, document: Mapping[str, Any]) -> None:
        """One that found something else is followed by a scan, or by a breakdown."""
        self._kept[name].glanced = document["glance"]
        if document.get("unchanged"):
            work.heard.add(name)
            self._book.source_checked(name)

    def _source_is(self, work: AtWork, name: str, revision: str) -> None:
        kept = self._kept[name]
        kept.refusals = 0
        if not work.order.is_push:
            kept.digest, kept.glanced = kept.glanced, ""
        if work.number < kept.known_by:
            return  # a long push tells what the source was before somebody else looked at it
        kept.known_by = work.number
        is_news = self._book.source_is(name, revision)
        if is_news and not work.order.is_push and not work.order.is_settled:
            self._hint(name)

    def _source_failed(self, name: str, error: Mapping[str, Any]) -> None:
        """Ask again later, if that may help: a directory that is gone is told of when it comes."""
        kept = self._kept[name]
        kept.glanced = ""
        self._book.source_failed(name, error)
        if error.get("code") == "not-found" or not kept.activity.is_at_rest:
            return
        settle = self._book.duties.settle_seconds
        pause = min(max(settle, 1.0) * 2**kept.refusals, REFUSED_MAX_SECONDS)
        kept.refusals += 1
        kept.activity = triggers.changed(kept.activity, self._clock(), pause)

    def _no_spare(self, name: str, work: AtWork, error: Mapping[str, Any]) -> None:
        """One line, and none where it would be the same again; the next push to there only takes
        longer."""
        kept, server = self._kept[name], str(error.get("server") or ", ".join(work.order.servers))
        kept.not_spared.update([server] if server in work.order.servers else work.order.servers)
        code, text = str(error.get("code", "")), str(error.get("message", ""))
        if code not in _ORDINARY and kept.spare_told.get(server) != text:
            kept.spare_told[server] = text
            text = f"no tree was made there for the next push: {text}"
            self._log.warning(text, environment=name, server=server, code=code)

    def over(self, work: AtWork) -> None:
        """A child has ended."""
        order = work.order
        names = [name for name in order.environments if name in self._kept]
        if not work.has_begun:
            return  # whoever wants to give it the word will see
        told = broken(work)
        if order.makes_spare:
            if work.child.status and not work.is_ended:
                for name in names:
                    self._no_spare(name, work, told)
            return
        if order.is_push:
            # One that was reported may be at work again, by a younger child.
            known = work.reported | work.moved
            silent = tuple(server for server in order.servers if server not in known)
            for name in names:
                self._book.ended(name, silent, None if work.source_failed else told)
        # What a push leaves unsaid matters only where it was to find out what an earlier child
        # could not: nothing else asks again before the next rescan.
        for name in names:
            is_in_doubt = order.is_scan or self._book.source(name).error is not None
            if name not in work.heard and is_in_doubt:
                self._source_failed(name, told)
