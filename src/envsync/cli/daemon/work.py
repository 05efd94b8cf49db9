"""`envsync daemon work`: one task of the daemon, in its own process. Not for people.

It reports as JSON documents, one per line, and ends when its stdin does.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
import threading
from dataclasses import replace
from queue import SimpleQueue
from typing import TYPE_CHECKING, NoReturn

import click

from envsync.cli.invocation.invocation import Invocation
from envsync.cli.invocation.options import common_options
from envsync.daemon.tasks import START_CHANGED, Task
from envsync.daemon.worker_messages import (
    Failure,
    Message,
    PushBegun,
    PushEnded,
    PushOutcome,
    SourceScanned,
    to_document,
)
from envsync.errors import EnvsyncError, SourceRefused, UsageError
from envsync.texts.redaction import redacted_json

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from envsync.cli.invocation.site import Site
    from envsync.cli.pushing.request import PushRequest
    from envsync.push.ends.end import End
    from envsync.push.fan_out.fan_out import AwaitStart
    from envsync.push.request.places import Place
    from envsync.push.steps.report import PushReport, ServerProgress

SCAN_ATTEMPTS = 4

NOTES_MAX = 20
"""How many warnings and relaxed pins of a push are kept: there may be one for each link."""

END_SECONDS = 3.0
"""How long a push may take to end once the daemon is gone."""


@click.command(hidden=True)
@click.option("--as", "as_name", required=True)
@click.option("--task", "text", required=True)
@common_options
@click.pass_obj
def work(invocation: Invocation, as_name: str, text: str) -> None:
    """Scan the environments, or push the one to the servers, as the task says."""
    task = Task.parse(text)
    start_signal = SimpleQueue[bool]()
    listen = functools.partial(_end_with_the_daemon, start_signal)
    await_start = start_signal.get if task.awaits_start else None
    if not task.is_push:
        listen()
    site = functools.cache(lambda: invocation.site(as_name))
    for environment in task.environments:
        try:
            if task.makes_spare:
                _make_spares(site(), environment, task.servers)
            elif task.is_push:
                _push(site(), environment, task.servers, listen, await_start)
            else:
                _scan(site(), environment)
        except EnvsyncError as error:
            _send(Failure(environment, error))


_SENDING = threading.Lock()


def _send(message: Message) -> None:
    """Send one line; the lock is needed because several threads report and long writes are split.

    Credentials are removed because the daemon keeps reports on disk.
    """
    line = json.dumps(redacted_json(to_document(message))) + "\n"
    with _SENDING:
        sys.stdout.write(line)
        sys.stdout.flush()


def _scan(site: Site, environment: str) -> None:
    """Send the source's revision, found by a stat pass that reads only what is new.

    Raises an error if there is none: a scan that sends nothing would count as one that crashed.
    """
    from envsync.push.ends.local_source import open_local
    from envsync.push.preflight.preflight import require_source

    local = site.local(environment)
    look = open_local(site.here_place(), environment, local).look
    state = look.state()
    for _ in range(SCAN_ATTEMPTS):
        require_source(state)
        if look.confirmed(state):
            _send(SourceScanned(environment, state.revision))
            return
        state = look.renewed(state)
    raise SourceRefused(
        "it keeps changing while it is read",
        hint="name in `local:` what belongs to this server alone, such as a job's log",
        server=site.own_name,
    )


def _push(
    site: Site,
    environment: str,
    servers: tuple[str, ...],
    listen: Callable[[], None],
    await_start: AwaitStart | None = None,
) -> None:
    """Push as `envsync push` does, unattended; call `listen` once helper processes are forked."""
    from envsync.agent.operations.fewer_collections import collect_rarely

    collect_rarely()
    from envsync.push.fan_out.fan_out import FanOut

    request = _unattended(site, environment, servers)
    sent = _SentReports(site, environment, servers)

    def on_report(report: PushReport) -> None:
        sent.send(report, fan_out.source_revision)

    fan_out = FanOut(
        request.settings, request.source, request.destinations, sent.on_progress, on_report
    )
    listen()
    if await_start is None:
        sent.start()
        fan_out.run()
    else:
        fan_out.run(lambda: sent.start(is_changed=await_start()))
    # Every server may have failed before it was found.
    sent.send_revision(fan_out.source_revision)


def _unattended(site: Site, environment: str, servers: tuple[str, ...]) -> PushRequest:
    """Return the push as nobody watches it: the daemon waits for jobs by trying again."""
    from envsync.cli.pushing.request import PushOptions, resolve_push
    from envsync.push.request.method import PACK

    request = resolve_push(site, PushOptions(environment, servers=servers))
    settings = request.settings
    if settings.method == PACK:
        raise UsageError(
            f"the daemon does not pack: every change would send all of {environment} again",
            hint=f"give {environment} `method: auto`, or push it by hand",
        )
    in_use = "fail" if settings.in_use == "wait" else settings.in_use
    return replace(request, settings=replace(settings, unattended=True, in_use=in_use))


class _SentReports:
    """Sends on which servers a push begins and how it ended, and the source's revision if known."""

    def __init__(self, site: Site, environment: str, servers: Collection[str]) -> None:
        self._site = site
        self._environment = environment
        self._servers = servers
        self._begun: set[str] = set()
        self._is_started = False
        self._is_revision_sent = threading.Event()

    def on_progress(self, progress: ServerProgress) -> None:
        """Send that a server is worked on, at the first sign; may be called from any thread."""
        server = progress.server
        if server in self._servers and server not in self._begun:
            self._begun.add(server)
            if self._is_started:
                _send(PushBegun(self._environment, server))

    def start(self, *, is_changed: bool = False) -> bool:
        """Send with which servers the push begins, and return `is_changed`.

        Until then it was only prepared. One that comes at the same time may be sent twice.
        """
        self._is_started = True
        for server in tuple(self._begun):
            _send(PushBegun(self._environment, server))
        return is_changed

    def send(self, report: PushReport, source_revision: str) -> None:
        """Send a server's report; may be called from any thread."""
        if report.error is not None and "SSH_AUTH_SOCK" not in os.environ:
            # Imported only here: it takes 5 ms, for which other servers' pushes would wait.
            from envsync.cli.daemon.service_trial import advise_service

            advise_service(report.error, self._site.inventory.server(report.server))
        outcome = PushOutcome(
            server=report.server,
            outcome=report.outcome,
            revision=report.revision,
            source_revision=report.revision or source_revision,
            seconds=report.seconds,
            wants_spare=report.wants_spare,
            warnings=_first(report.warnings),
            changes=_first(report.changes),
        )
        ended = PushEnded(self._environment, outcome, report.error)
        if ended.source_error is not None:
            self._is_revision_sent.set()  # of a source that was refused, a revision says nothing
        elif outcome.source_revision:
            self._is_revision_sent.set()
            _send(SourceScanned(self._environment, outcome.source_revision))
        _send(ended)

    def send_revision(self, revision: str) -> None:
        """Send the source's revision, if it is known and no report has told it."""
        if revision and not self._is_revision_sent.is_set():
            _send(SourceScanned(self._environment, revision))


def _first(notes: tuple[str, ...]) -> tuple[str, ...]:
    more = len(notes) - NOTES_MAX
    return notes if more <= 0 else (*notes[:NOTES_MAX], f"and {more} more")


def _make_spares(site: Site, environment: str, servers: tuple[str, ...]) -> None:
    """Make spare trees; a failure is sent for each server, and only makes the next push slower."""
    from envsync.cli.pushing.request import PushOptions, resolve_push
    from envsync.push.ends.target_end import TargetEnd, open_request
    from envsync.push.queries.servers import Outcome, for_each_server

    request = resolve_push(site, PushOptions(environment, servers=servers))

    def make(end: End, place: Place) -> bool:
        return TargetEnd(end, open_request(request.settings, place.prefix)).make_spare()

    def send_failure(outcome: Outcome[bool]) -> None:
        if outcome.error is not None:
            _send(Failure(environment, outcome.error))

    for_each_server(request.destinations, make, send_failure)


def _end_with_the_daemon(start_signal: SimpleQueue[bool]) -> None:
    """Treat SIGTERM and the end of stdin, whose other end the daemon holds, as Ctrl-C.

    A line on stdin is the signal to start, and says whether the source has changed. After the end,
    the process has `END_SECONDS` left.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)

    def wait() -> None:
        while line := os.read(0, 4096):
            start_signal.put(line.strip() == START_CHANGED)
        os.kill(os.getpid(), signal.SIGTERM)
        late = threading.Timer(END_SECONDS, _leave)
        late.daemon = True  # a process that ends by itself does not wait for it
        late.start()

    threading.Thread(target=wait, daemon=True).start()


def _leave() -> NoReturn:
    """Exit, and kill everything that was started from here, such as rsync."""
    if os.getpgid(0) == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)
