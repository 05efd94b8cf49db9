"""`envsync daemon pause|resume|sync`: requests to the running daemon."""

from __future__ import annotations

import click

from envsync.cli.invocation.arguments import environments_argument
from envsync.cli.invocation.invocation import Invocation
from envsync.cli.invocation.options import common_options
from envsync.errors import NotFound


@click.command()
@environments_argument
@common_options
@click.pass_obj
def pause(invocation: Invocation, environments: tuple[str, ...]) -> None:
    """Stop the daemon from pushing ENV until `envsync daemon resume`; by default, all
    environments.

    A running push is ended. What it has sent is kept for the next one, and a switch that has
    begun is finished. The pause remains after a restart of the daemon.
    """
    names = _ask(invocation, "pause", environments)
    invocation.terminal.say(f"paused: {', '.join(names)}")
    trouble = (invocation.result or {})["trouble"]
    if trouble:
        invocation.terminal.warning(f"only until the daemon ends: it cannot save that: {trouble}")


@click.command()
@environments_argument
@common_options
@click.pass_obj
def resume(invocation: Invocation, environments: tuple[str, ...]) -> None:
    """Have the daemon push ENV again; by default, everything."""
    names = _ask(invocation, "resume", environments)
    invocation.terminal.say(f"kept in step again: {', '.join(names)}")


@click.command()
@environments_argument
@common_options
@click.pass_obj
def sync(invocation: Invocation, environments: tuple[str, ...]) -> None:
    """Have the daemon push ENV now; by default, everything that is not paused.

    It waits neither for the environment to settle nor for a server's next try, and accepts
    an unfinished installation once no installer runs (and pip's `~NAME` is 10 minutes old). It
    does not overwrite what was changed on a server, or push again what is held there: for that,
    use `envsync push`.
    """
    names = _ask(invocation, "sync", environments)
    for sign in (invocation.result or {})["accepted"]:
        invocation.terminal.warning(f"accepted as it is: {sign}")
    shown = invocation.terminal.copyable("`envsync status` shows the result")
    invocation.terminal.say(f"requested: {', '.join(names)}; {shown}")


def _ask(invocation: Invocation, verb: str, environments: tuple[str, ...]) -> list[str]:
    from envsync.daemon.control import ask_daemon
    from envsync.daemon.systemd.known_units import service_trouble

    request = {"verb": verb, "environments": list(environments)}
    answer = ask_daemon(invocation.environ, request)
    if answer is None:
        hint = service_trouble(invocation.environ) or "start one: envsync daemon"
        raise NotFound("no daemon of this user runs here", hint=hint)
    names = [str(name) for name in answer["environments"]]
    invocation.result = {
        "environments": names,
        "accepted": answer.get("accepted", []),
        "trouble": answer.get("trouble", ""),
    }
    return names
