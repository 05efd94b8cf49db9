"""Carries out requests to the daemon: status, pause, resume, sync, look."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from envsync.daemon.control import Answer, Request
from envsync.daemon.log import Log
from envsync.daemon.scheduler import Scheduler
from envsync.errors import NotFound, PreflightRefused, UsageError, listed
from envsync.hint_commands import command_line
from envsync.inventory.names import suggestion
from envsync.tree.revision import is_revision

_LOG_MESSAGES = {
    "pause": "paused",
    "resume": "resumed",
    "sync": "sync requested",
    "look": "a command was run for it: looking again",
}
_TO_WATCH = "with `watch: true` and `push_to:`, the daemon of its `source:` keeps it in step"


class RequestHandler:
    """Carries out requests; `document` returns everything that `envsync status` shows."""

    def __init__(
        self, scheduler: Scheduler, log: Log, document: Callable[[], dict[str, Any]]
    ) -> None:
        self._scheduler = scheduler
        self._log = log
        self._document = document

    def handle(self, request: Request) -> Answer:
        """Carry out a request and return the answer; raises the error to answer with."""
        verb = request.get("verb")
        if verb == "status":
            return {"status": self._document()}
        if not isinstance(verb, str) or verb not in _LOG_MESSAGES:
            raise UsageError("the daemon does not know that request; it may be an older version")
        names = self._named(request.get("environments"))
        answer: Answer = {}
        if verb == "sync":
            names = self._not_paused(names, are_named=bool(request.get("environments")))
            changed = names
            accepted = {name: self._scheduler.sync(name) for name in names}
            answer["accepted"] = [f"{name}: {sign}" for name in names for sign in accepted[name]]
        elif verb == "look":
            servers, pushed = _strings(request.get("servers")), _revisions(request.get("pushed"))
            names = changed = self._scheduler.look_again(names, servers, pushed)
        else:
            changed = self._scheduler.pause(names, paused=verb == "pause")
        for name in changed:
            self._log.info(_LOG_MESSAGES[verb], environment=name)
        answer["environments"] = names
        if verb == "pause":
            answer["trouble"] = self._document()["daemon"]["trouble"]
        return answer

    def _not_paused(self, names: list[str], *, are_named: bool) -> list[str]:
        """Return the environments that are not paused, because a pause holds until `resume`.

        Raises `PreflightRefused` if a paused one was asked for by name, or all are paused.
        """
        paused = [name for name in names if self._scheduler.sources[name].row.paused]
        if paused and (are_named or len(paused) == len(names)):
            what = f"{paused[0]} is" if len(paused) == 1 else f"{', '.join(paused)} are"
            raise PreflightRefused(
                f"{what} paused: nothing was requested",
                hint=command_line("daemon", "resume", *paused),
            )
        return [name for name in names if name not in paused]

    def _named(self, names: object) -> list[str]:
        assignments = self._scheduler.sync_state.assignments
        watched, elsewhere = list(assignments.by_name), assignments.elsewhere
        named = list(dict.fromkeys(_strings(names)))
        if not named and not watched:
            sources = listed(sorted(set(elsewhere.values())))
            hint = f"run the same command on {sources}" if elsewhere else _TO_WATCH
            raise NotFound("the daemon watches no environment", hint=hint)
        for name in named:
            if name in elsewhere:
                source = elsewhere[name]
                raise NotFound(
                    f"{name} is kept in step from {source}, not from this machine",
                    hint=f"run the same command on {source}",
                )
            if name not in watched:
                raise NotFound(
                    f"the daemon does not watch the environment {name!r}"
                    f"{suggestion(name, watched)}",
                    details=[f"kept in step: {', '.join(watched) or 'none'}"],
                    hint=_TO_WATCH,
                )
        return named or watched


def _revisions(value: object) -> dict[str, str]:
    known = value.items() if isinstance(value, dict) else ()
    return {server: text for server, text in known if isinstance(text, str) and is_revision(text)}


def _strings(value: object) -> list[str]:
    return [part for part in value if isinstance(part, str)] if isinstance(value, list) else []
