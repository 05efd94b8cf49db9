"""The view of `envsync status`: a table, and below it the reasons and hints."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from envsync import __version__
from envsync.cli.output.wording import age, moment, rounded
from envsync.daemon.status import summary
from envsync.errors import listed
from envsync.hint_commands import is_copied, with_config
from envsync.texts.redaction import escaped

TITLES = ("ENVIRONMENT", "SERVER", "REVISION", "STATE", "SINCE", "NEXT TRY")
_STATE = TITLES.index("STATE")
_WIDTH_MIN = 40
_IN_STEP = "in-step"
_RESTART = (
    "restart it: sudo systemctl restart envsync@USER, or systemctl --user restart envsync, "
    "or stop and start it in its terminal"
)

StatusDocument = Mapping[str, Any]


class Trouble(NamedTuple):
    """What is wrong on a server, or with the daemon or a source; `where` is then ""."""

    where: str
    message: str
    details: Sequence[str] = ()
    hint: str = ""


def lines(
    document: StatusDocument,
    columns: int,
    *,
    config: str = "",
    verbose: bool = False,
    is_styled: bool = False,
    height: int | None = None,
) -> list[str]:
    """Return what a terminal shows, escaped; text is folded, rows of the table never are.

    With `height`, it is for a screen that is cut to its size. Then hints are folded as well, which
    are copied elsewhere, and if there are more lines than that, rows that are in step are counted.
    `config` is the inventory that `--config` named.
    """
    width = max(columns, _WIDTH_MIN)
    drawn: list[str] = []
    for line in whereabouts(document, config):
        drawn += _folded(line, width, then="  ")
    shown = rows(document)
    if len(shown) > 1:
        drawn += _folded(summary(row[_STATE] for row in shown), width, then="  ")
    table = _table(shown, columns, is_styled=is_styled)
    below = _below(document, width, verbose=verbose, is_cut=height is not None)
    if height is not None and len(drawn) + len(table) + bool(below) + len(below) > height:
        table = _shorter_table(shown, columns)
    drawn += table
    return [*drawn, *([""] if drawn and below else ()), *below]


def _table(shown: Sequence[Sequence[str]], columns: int, *, is_styled: bool = False) -> list[str]:
    from envsync.cli.output.table import Table

    if not shown:
        return []
    cells = [[escaped(cell) for cell in row[:-1]] for row in shown]
    table, _ = Table(TITLES, cells, is_styled=is_styled).lines(columns)
    return list(table)


def _shorter_table(shown: Sequence[Sequence[str]], columns: int) -> list[str]:
    """Return the table without rows that are in step, unless there is nothing else to show."""
    others = [row for row in shown if row[_STATE] != _IN_STEP]
    if len(others) in (0, len(shown)):
        return _table(shown, columns)
    return [*_table(others, columns), f"... and {len(shown) - len(others)} in step"]


def _below(document: StatusDocument, width: int, *, verbose: bool, is_cut: bool) -> list[str]:
    """Return the lines below the table; what several servers have in common is told once."""
    drawn: list[str] = []
    for trouble in _alike([*troubles(document), *(notes(document) if verbose else ())]):
        where = f"{trouble.where}: " if trouble.where else ""
        drawn += _folded(f"{where}{trouble.message}", width, then="  ")
        drawn += (f"  {escaped(line)}" for line in trouble.details if verbose)
        if is_copied(trouble.hint) and not is_cut:
            drawn.append(f"  → {escaped(trouble.hint)}")
        else:
            drawn += _folded(trouble.hint, width, first="  → ", then="    ")
    return drawn


def _alike(found: Sequence[Trouble]) -> Iterator[Trouble]:
    """Yield troubles, those that differ only in where they are as one."""
    places: dict[Trouble, dict[str, list[str]]] = {}
    for trouble in found:
        same = trouble._replace(where="", details=tuple(trouble.details))
        environment, _, server = trouble.where.rpartition(" on ")
        places.setdefault(same, {}).setdefault(environment, []).append(server)
    for same, where in places.items():
        named = [f"{name} on {listed(servers)}" for name, servers in where.items() if name]
        yield same._replace(where="; ".join(named))


def _folded(text: str, width: int, *, first: str = "", then: str) -> list[str]:
    return textwrap.wrap(
        escaped(text), width, initial_indent=first, subsequent_indent=then, break_on_hyphens=False
    )


def rows(document: StatusDocument) -> list[tuple[str, ...]]:
    """Return a row for each environment and server; its extra last column gives the reason."""
    is_running = document["daemon"]["running"]
    return [
        _row(source, server, is_running=is_running)
        for source in document["environments"]
        for server in source["servers"]
    ]


def _row(source: StatusDocument, server: StatusDocument, *, is_running: bool) -> tuple[str, ...]:
    from envsync.tree.revision import short

    error = _error_now(server)
    return (
        source["environment"],
        server["server"],
        short(server["revision"]) or "-",
        server["state"],
        age(server["since_seconds"]),
        _next_try(server, source, is_running=is_running),
        "" if error is None else error["message"],
    )


def _error_now(server: StatusDocument) -> Any:
    """Return the error that counts: while it is tried again, the last try's does not."""
    return None if server["state"] == "pushing" else server["error"]


def _next_try(server: StatusDocument, source: StatusDocument, *, is_running: bool) -> str:
    if source["paused"]:
        return "paused"
    if not is_running:
        return "-"
    when = server["next_try_seconds"]
    if server["state"] in ("lagging", "in-step") and source["activity"] != "at rest":
        return str(source["activity"])
    # What is held or halted is only looked at again: as a next try, a rollback would seem undone.
    if when is None or server["state"] in ("in-step", "pushing", "held", "halted"):
        return "-"
    seconds = round(when - time.time())
    return "now" if seconds <= 0 else f"in {rounded(seconds)}"


def whereabouts(document: StatusDocument, config: str = "") -> Iterator[str]:
    """Yield a line if no daemon runs, or if it has nothing to do."""
    daemon, sources = document["daemon"], document["environments"]
    if not daemon["running"]:
        known = "; this is what the last one knew" if sources else ""
        start = with_config("start one: envsync daemon", config)
        why = daemon["service_trouble"] or start
        yield f"no daemon runs here ({why}){known}"
    elif not sources:
        yield (f"nothing is kept in step: {daemon['inventory']} has no environment with "
               "`watch: true` and `push_to:` whose source is this machine")  # fmt: skip


def troubles(document: StatusDocument) -> Iterator[Trouble]:
    """Yield what is wrong with the daemon, then with sources, then on servers.

    A server has a hint if a person may have to correct something. It may be tried again all the
    same: one that is off needs no correction, but a key that it refuses does.
    """
    yield from _of_daemon(document["daemon"])
    for source in document["environments"]:
        name, error, checked = source["environment"], source["error"], source["checked_seconds"]
        if error is not None:
            last = f" (last at rest {moment(checked)})" if checked else ""
            yield Trouble("", f"{name}: {error['message']}{last}", hint=error["hint"])
        if source["polled"]:
            yield Trouble("", f"{name} is checked every 10 s: {source['polled']}")
    for source in document["environments"]:
        for server in source["servers"]:
            if (error := _error_now(server)) is not None:
                where = f"{source['environment']} on {server['server']}"
                may_need = server["state"] in ("halted", "held", "retrying")
                hint = error["hint"] if may_need else ""
                yield Trouble(where, error["message"], error["details"], hint)


def notes(document: StatusDocument) -> Iterator[Trouble]:
    """Yield what a person should know about versions that servers have, each once a source."""
    for source in document["environments"]:
        told: dict[str, list[str]] = {}
        for server in source["servers"]:  # a daemon of an older version sends none
            lines = [f"relaxed: {change}" for change in server.get("changes", ())]
            lines += [f"warning: {warning}" for warning in server.get("warnings", ())]
            for line in lines:
                told.setdefault(line, []).append(server["server"])
        for line, servers in told.items():
            yield Trouble(f"{source['environment']} on {listed(servers)}", line)


def _of_daemon(daemon: StatusDocument) -> Iterator[Trouble]:
    if daemon["running"] and daemon["version"] != __version__:
        version = daemon["version"] or "of an older version"
        told = f"the running daemon is envsync {version}, this is {__version__}"
        yield Trouble("", told, hint=_RESTART)
    refused = daemon["inventory_error"]
    if refused is not None:
        details = "; ".join([refused["message"], *refused["details"]])
        yield Trouble("", f"the inventory is refused, the old one stays in use: {details}")
    if daemon["trouble"]:
        yield Trouble("", f"the daemon cannot save its state: {daemon['trouble']}")
