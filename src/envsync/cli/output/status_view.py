"""The view of `envsync status`: a table, and below it the reasons and hints."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from envsync import __version__
from envsync.cli.output.wording import age, duration, moment

TITLES = ("ENVIRONMENT", "SERVER", "REVISION", "STATE", "SINCE", "NEXT TRY")
_WIDTH_MIN = 40
_RESTART = (
    "restart it: sudo systemctl restart envsync@USER, or systemctl --user restart envsync, "
    "or stop and start it in its terminal"
)

StatusDocument = Mapping[str, Any]


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

    return (
        source["environment"],
        server["server"],
        short(server["revision"]) or "-",
        server["state"],
        age(server["since_seconds"]),
        _next_try(server, source, is_running=is_running),
        _why(server),
    )


def _next_try(server: StatusDocument, source: StatusDocument, *, is_running: bool) -> str:
    if source["paused"]:
        return "paused"
    if not is_running:
        return "-"
    when = server["next_try_seconds"]
    if server["state"] in ("lagging", "in-step") and source["activity"] != "at rest":
        return str(source["activity"])
    if when is None or server["state"] in ("in-step", "pushing"):
        return "-"
    seconds = round(when - time.time())
    if seconds <= 0:
        return "now"
    return f"in {seconds} s" if seconds < 100 else f"in {duration(seconds)}"


def _why(server: StatusDocument) -> str:
    error = server["error"]
    return "" if error is None else str(error["message"])


def whereabouts(document: StatusDocument) -> Iterator[str]:
    """Yield a line if no daemon runs, or if it has nothing to do."""
    daemon, sources = document["daemon"], document["environments"]
    if not daemon["running"]:
        known = "; this is what the last one knew" if sources else ""
        why = daemon["service_trouble"] or "start one: envsync daemon"
        yield f"no daemon runs here ({why}){known}"
    elif not sources:
        yield (f"nothing is kept in step: {daemon['inventory']} has no environment with "
               "`watch: true` and `push_to:` whose source is this machine")  # fmt: skip


def troubles(document: StatusDocument) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with the daemon or a source, each with a hint or ""."""
    daemon = document["daemon"]
    if daemon["running"] and daemon["version"] != __version__:
        version = daemon["version"] or "of an older version"
        yield f"the running daemon is envsync {version}, this is {__version__}", _RESTART
    refused = daemon["inventory_error"]
    if refused is not None:
        details = "; ".join([refused["message"], *refused["details"]])
        yield f"the inventory is refused, the old one stays in use: {details}", ""
    if daemon["trouble"]:
        yield f"the daemon cannot save its state: {daemon['trouble']}", ""
    for source in document["environments"]:
        if source["error"] is not None:
            checked = source["checked_seconds"]
            last = f" (last at rest {moment(checked)})" if checked else ""
            message = f"{source['environment']}: {source['error']['message']}{last}"
            yield message, str(source["error"]["hint"])
        if source["polled"]:
            yield f"{source['environment']} is checked every 10 s: {source['polled']}", ""


def hints(document: StatusDocument) -> dict[str, str]:
    """Return the hints for what a person may have to correct, by environment and server.

    Servers that are tried again are included: one that is off needs no correction, but a key that
    it refuses does.
    """
    return {
        f"{source['environment']} on {server['server']}": str(server["error"]["hint"])
        for source in document["environments"]
        for server in source["servers"]
        if server["error"] is not None
        and server["state"] in ("halted", "held", "retrying")
        and server["error"]["hint"]
    }


def details(document: StatusDocument) -> dict[str, Sequence[str]]:
    """Return the details of errors, such as processes in the way, by environment and server."""
    return {
        f"{source['environment']} on {server['server']}": server["error"]["details"]
        for source in document["environments"]
        for server in source["servers"]
        if server["error"] is not None and server["error"]["details"]
    }


def reasons(document: StatusDocument, width: int, *, verbose: bool = False) -> Iterator[str]:
    """Yield the lines below the table, for a terminal of `width` columns."""
    width = max(width, _WIDTH_MIN)
    ways_out, more = hints(document), details(document) if verbose else {}
    entries: list[tuple[str, Sequence[str], str]] = [
        (text, (), hint) for text, hint in troubles(document)
    ]
    for source in document["environments"]:
        for server in source["servers"]:
            if _why(server):
                where = f"{source['environment']} on {server['server']}"
                text = f"{where}: {_why(server)}"
                entries.append((text, more.get(where, ()), ways_out.get(where, "")))
    for text, lines, hint in entries:
        yield from textwrap.wrap(text, width, subsequent_indent="  ", break_on_hyphens=False)
        yield from (f"  {line}" for line in lines)
        yield from textwrap.wrap(
            hint,
            width,
            initial_indent="  → ",
            subsequent_indent="    ",
            break_on_hyphens=False,
        )
