"""`envsync verify`: hash every byte on a server again and compare with what was published."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from envsync.agent.wire.checked_json import to_json
from envsync.cli.invocation.arguments import environment_argument, servers_argument
from envsync.cli.invocation.invocation import Invocation
from envsync.cli.invocation.options import common_options
from envsync.cli.output.wording import contents, count, moment
from envsync.errors import EnvsyncError, NotFound, VerificationFailed
from envsync.hint_commands import command_line, published_diff
from envsync.tree.revision import short
from envsync.tree.sharing import WRITE, Share

if TYPE_CHECKING:
    from envsync.agent.wire.figures import OnFigure
    from envsync.agent.wire.target_operations import VerifyFacts
    from envsync.push.ends.end import End
    from envsync.push.queries.servers import Outcome
    from envsync.push.request.places import Place


PATHS_SHOWN = 20


@click.command()
@environment_argument
@servers_argument()
@common_options
@click.pass_obj
def verify(invocation: Invocation, environment: str, servers: tuple[str, ...]) -> None:
    """Hash every file of ENV on each SERVER again and compare with what was published there.

    Without SERVER, check the servers in its `push_to` in the inventory. If paths are damaged,
    missing, unexpected or not shared with their group, they are listed (if they are many,
    their packages; all paths with -v), and the exit status is 18 (of several servers, 20).
    """
    from envsync.cli.invocation.asking import ask_servers, raise_failures, target_of

    site = invocation.site()
    named = site.servers_of("verify", environment, servers)
    places = [site.place(server) for server in named]
    share = site.inventory.environment(environment).share
    sharing = {
        server.name: _sharing(f"{site.prefix(server)}/envs/{environment}", share or server.share)
        for server in named
    }

    def ask(end: End, place: Place, on_progress: OnFigure) -> VerifyFacts:
        return target_of(site, environment, end, place).verify(on_progress)

    # `push_to` may name a group that includes this machine, from where it is pushed. If the
    # inventory names a source, that one was not named.
    may_be_source = not servers and site.inventory.environment(environment).source is None

    def problem(server: str, facts: VerifyFacts) -> EnvsyncError | None:
        if may_be_source and server == site.own_name and facts.record is None:
            return None
        return _problem(environment, server, facts, sharing[server])

    invocation.result = {"environment": environment}
    outcomes = ask_servers(invocation, "verify", places, ask, _document, problem)
    for outcome in outcomes:
        for line in _lines(environment, outcome, invocation.verbose):
            invocation.terminal.say(line)
    raise_failures(invocation.terminal, outcomes)


def _sharing(top: str, share: Share | None) -> str:
    """Return the command by which an owner gives a tree to its group again."""
    granted = "g=u" if share is not None and share.access == WRITE else "g+rX,g-w"
    return (
        f"cd {shlex.quote(top)} && chgrp -R --reference=. . && chmod -R {granted} . && "
        "find . -type d -exec chmod g+s {} +"
    )


def _problem(
    environment: str, server: str, facts: VerifyFacts, sharing: str
) -> EnvsyncError | None:
    """Return an error if the bytes are not what was published.

    `sharing` is the command that gives the tree to its group.
    """
    if facts.record is None:
        return NotFound(
            "envsync never published it there: there is nothing to compare it with",
            hint="a push puts it on record, even if the content is the same",
            server=server,
        )
    if list(_differing(facts)) == ["unshared"]:
        return VerificationFailed(
            f"{_figures(facts)}: its group cannot use them as it should",
            hint=f"as their owner there: {sharing}",
            server=server,
        )
    if _differing(facts):
        again = command_line("push", environment, server, "--overwrite")
        return VerificationFailed(
            f"{_figures(facts)}: not what was published",
            hint=f"see which packages with `{published_diff(environment, server)}`; "
            f"`{again}` corrects it and keeps this version",
            server=server,
        )
    return None


def _differing(facts: VerifyFacts) -> dict[str, tuple[str, ...]]:
    """Return the paths that differ, by how they do."""
    by_kind = {
        "damaged": facts.damaged,
        "missing": facts.missing,
        "unexpected": facts.unexpected,
        "unshared": facts.unshared,
    }
    return {kind: paths for kind, paths in by_kind.items() if paths}


def _figures(facts: VerifyFacts) -> str:
    return ", ".join(count(len(paths), f"{kind} path") for kind, paths in _differing(facts).items())


def _lines(environment: str, outcome: Outcome[VerifyFacts], verbose: bool) -> Iterator[str]:
    """Yield what was found; the error does not repeat it."""
    where, facts = f"{environment} on {outcome.server}", outcome.value
    if facts is None:
        return
    if facts.record is None:
        if outcome.error is None:
            yield f"{where}: pushed from here, so there is nothing to compare"
        return
    if outcome.error is not None:
        yield f"{where}: {_figures(facts)}"
        paths = [f"  {kind:<12}{path}" for kind, some in _differing(facts).items() for path in some]
        if verbose or len(paths) <= PATHS_SHOWN:
            yield from paths
            return
        yield from (f"  {line}" for line in (*facts.packages, *facts.groups))
        # No package's content is another because of these.
        yield from (f"  {'unshared':<12}{path}" for path in facts.unshared[:PATHS_SHOWN])
        yield f"  see all {len(paths):,} paths with -v"
        return
    # The source's revision, because the server's own differs if its prefix does.
    revision = short(facts.record.source_revision)
    found = contents(facts.totals.files, facts.totals.size_bytes)
    yield f"{where}: {found}, as published ({revision})"
    if verbose:
        yield f"  published by {facts.record.who}, {moment(facts.record.when_seconds)}"


def _document(outcome: Outcome[VerifyFacts]) -> dict[str, object]:
    return {
        **outcome.document(),
        "verified": None if outcome.value is None else to_json(outcome.value),
    }
