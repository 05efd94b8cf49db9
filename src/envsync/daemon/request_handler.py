"""What the daemon answers to those who knock: its status, and what they want of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from envsync.daemon.control import Answer, Request
from envsync.daemon.log import Log
from envsync.daemon.scheduler import Keeper
from envsync.errors import NotFound, PreflightRefused, UsageError
from envsync.inventory.names import suggestion
from envsync.told_commands import command_line

_TOLD = {"pause": "paused", "resume": "goes on", "sync": "asked for now"}


class Answers:
    """`document` gives everything that `envsync status` shows."""

    def __init__(self, keeper: Keeper, log: Log, document: Callable[[], dict[str, Any]]) -> None:
        self._keeper = keeper
        self._log = log
        self._document = document

    def to(self, request: Request) -> Answer:
        """Carries it out; raises what is to be told instead."""
        verb = request.get("verb")
        if verb == "status":
            return {"status": self._document()}
        if not isinstance(verb, str) or verb not in _TOLD:
            raise UsageError("the daemon does not know that; it may be older than this command")
        names = self._named(request.get("environments"))
        if verb == "sync":
            names = self._not_paused(names, are_named=bool(request.get("environments")))
            for name in names:
                self._keeper.sync(name)
        else:
            self._keeper.pause(names, paused=verb == "pause")
        for name in names:
            self._log.info(_TOLD[verb], environment=name)
        return {"environments": names}

    def _not_paused(self, names: list[str], *, are_named: bool) -> list[str]:
        """A pause holds until `resume`: of all, those that are paused are left out, and one that
        is asked for by name is refused."""
        paused = [name for name in names if self._keeper.book.source(name).paused]
        if paused and (are_named or len(paused) == len(names)):
            what = f"{paused[0]} is" if len(paused) == 1 else f"{', '.join(paused)} are"
            raise PreflightRefused(
                f"{what} paused: nothing was asked for",
                hint=command_line("daemon", "resume", *paused),
            )
        return [name for name in names if name not in paused]

    def _named(self, names: object) -> list[str]:
        kept = list(self._keeper.book.duties.by_name)
        given = names if isinstance(names, list) else []
        wanted = [name for name in given if isinstance(name, str)]
        for name in wanted:
            if name not in kept:
                listed = ", ".join(kept) or "none"
                raise NotFound(
                    f"the daemon keeps no environment {name!r}{suggestion(name, kept)}",
                    details=[f"kept in step: {listed}"],
                    hint="it needs `source:` (this machine), `push_to:` and `watch: true`",
                )
        return wanted or kept
