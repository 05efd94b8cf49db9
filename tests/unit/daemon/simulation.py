"""A keeper whose children are pretended, and whose clock is moved by hand."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from envsync.daemon.assignments import Duties, Duty
from envsync.daemon.log import Log
from envsync.daemon.scheduler import Keeper
from envsync.daemon.store import ServerRow, Store
from envsync.daemon.sync_state import Book
from envsync.daemon.tasks import Order
from envsync.daemon.triggers import Observation
from envsync.daemon.worker_process import Child

SETTLE, RESCAN = 10.0, 3600.0
DOWN = {"code": "connection-failed", "message": "it does not answer", "hint": "", "details": []}


class PretendedChild:
    """Says what a test has it say."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.fd = os.open(os.devnull, os.O_RDONLY)
        self.said, self.status = "", 0
        self.is_over = self.is_dismissed = self.is_killed = False
        self.pid = 4242
        self.words: list[bytes] = []
        self._documents: list[dict[str, Any]] = []

    @property
    def has_begun(self) -> bool:
        return not self.order.awaits_word or bool(self.words)

    def tell(self, word: bytes) -> None:
        self.words.append(word)

    def end(self) -> None:
        """It would end soon."""
        self.is_dismissed = True

    def kill(self) -> None:
        """It would end at once."""
        self.is_killed, self.status = True, -9

    def say(self, **document: Any) -> None:
        self._documents.append({"environment": self.order.environments[0], **document})

    def read(self) -> list[dict[str, Any]]:
        said, self._documents = self._documents, []
        return said


class PretendedLook:
    def __init__(self, path: str) -> None:
        self.seen = Observation()
        self.old: tuple[str, ...] = ()
        self.suspected: tuple[str, ...] = ()

    def glance(self) -> None:
        pass

    def accept(self) -> None:
        pass

    def suspect(self, signs: tuple[str, ...]) -> None:
        self.suspected = signs

    def observe(self) -> Observation:
        return self.seen

    def unfinished(self, *, only_old: bool = False) -> tuple[str, ...]:
        return self.old


class Kept:
    """`one` and `two`, each on `a` and `b`; `world` is what a push would find at a source."""

    def __init__(self, directory: Path, *, looks: dict[str, PretendedLook]) -> None:
        self.now = 1000.0
        self.wall_ahead = 0.0
        self.no_process = False
        self.lines: list[str] = []
        self.children: list[PretendedChild] = []
        self.down: set[str] = set()
        self.spares: list[Order] = []
        """Orders to make a spare tree that were carried out."""
        self.wanting_spares: set[str] = set()
        self.no_spare: dict[str, dict[str, Any]] = {}
        """Why none is made on a server."""
        self.refused: dict[str, dict[str, Any]] = {}
        self.world = {"one": "r1", "two": "r1"}
        self.looks = looks
        self.store = Store(directory / "daemon.sqlite")
        self.store._connected().execute(
            "PRAGMA synchronous = OFF"
        )  # the disk is not what is tested
        log = Log(self.lines.append, {})
        book = Book(self.store, log, clock=self._wall, jitter=lambda: 0.5)
        self.keeper = Keeper(book, log, self._start, lambda: self.now, self._wall)
        self.keeper.adopt(self.duties())

    @staticmethod
    def duties(**servers: tuple[str, ...]) -> Duties:
        wanted = servers or {"one": ("a", "b"), "two": ("a", "b")}
        duties = {name: Duty(name, f"/p/envs/{name}", to) for name, to in wanted.items()}
        return Duties("me", SETTLE, RESCAN, duties)

    def edit(self, **changes: Any) -> None:
        """The inventory says something else of `one`."""
        found = self.duties()
        found.by_name["one"] = replace(found.by_name["one"], **changes)
        self.keeper.adopt(found)

    def _wall(self) -> float:
        return self.now + self.wall_ahead

    def _start(self, order: Order) -> Child:
        if self.no_process:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        child = PretendedChild(order)
        self.children.append(child)
        return cast("Child", child)

    def turn(self) -> list[Order]:
        """One turn; what began in it."""
        before = [child for child in self.children if child.has_begun]
        self.keeper.turn()
        began = [child for child in self.children if child.has_begun and child not in before]
        return [child.order for child in began if not child.order.makes_spare]

    def work(self) -> list[Order]:
        """Turns, each child doing what it is to do, until there is nothing left for now."""
        done: list[Order] = []
        while True:
            self.keeper.turn()
            self._end_dismissed()
            at_work = self.at_work()
            if not at_work:
                return done
            for child in at_work:
                (self.spares if child.order.makes_spare else done).append(child.order)
                self.finish(child)

    def at_work(self) -> list[PretendedChild]:
        """Those that have begun and not ended, in the order in which they were started."""
        return [child for child in self.children if child.has_begun and not child.is_over]

    def _end_dismissed(self) -> None:
        for child in self.children:
            if child.is_dismissed and not child.is_over:
                self.end(child)

    def finish(self, child: PretendedChild) -> None:
        if child.order.makes_spare:
            for server in child.order.servers:
                if server in self.no_spare:
                    child.say(error={**self.no_spare[server], "server": server})
        for name in () if child.order.makes_spare else child.order.environments:
            digest = f"digest {self.world[name]}"
            known = [one.digest for one in child.order.glances if one.environment == name]
            if known:
                unchanged = known == [digest]
                child.say(environment=name, glance=digest, unchanged=unchanged)
                if unchanged:
                    continue
            child.say(environment=name, revision=self.world[name])
            for server in child.order.servers:
                child.say(environment=name, report=self._report(name, server))
        self.end(child)

    def end(self, child: PretendedChild) -> None:
        child.is_over = True
        os.close(child.fd)
        self.keeper.hear(child.fd)

    def _report(self, name: str, server: str) -> dict[str, Any]:
        error = DOWN if server in self.down else self.refused.get(server)
        revision = "" if error else self.world[name]
        report = {"server": server, "revision": revision, "error": error, "outcome": "pushed"}
        wants_spare = server in self.wanting_spares
        more = {"seconds": 0.1, "source_revision": self.world[name], "wants_spare": wants_spare}
        return {**report, **more}

    def later(self, seconds: float) -> list[Order]:
        """As the loop does it, for so long."""
        end, done = self.now + seconds, list[Order]()
        while self.now < end:
            done += self.work()
            self.now = min(end, self.now + self.keeper.next_seconds())
        return done + self.work()

    def row(self, name: str, server: str) -> ServerRow:
        return self.store.contents.servers[name, server]

    def states(self) -> list[str]:
        return [self.row(n, s).state for n in ("one", "two") for s in ("a", "b")]


def looks() -> dict[str, PretendedLook]:
    """To be put in the place of `Look`, by path."""
    return {f"/p/envs/{name}": PretendedLook(name) for name in ("one", "two", "three")}
