"""Tests whether a systemd service can log in to servers, from a child that has what a service has.

The child has the user's files, the PATH that systemd gives, and the variables of the unit. It has
no ssh-agent, passphrase, ticket or open connection of the caller's.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from collections.abc import Sequence
from typing import Any

import click

from envsync.cli.invocation.invocation import Invocation
from envsync.cli.invocation.options import common_options
from envsync.daemon.systemd.units import ServiceSpec
from envsync.errors import AuthenticationRefused, EnvsyncError, ServiceFailed, error_from_json
from envsync.inventory import Server

CLOSED_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PARALLEL_MAX = 32
_SECONDS_EACH = 240.0
_STDERR_LINES = 3
_NO_TICKET = "FILE:/nonexistent/ticket"


def trial(
    service: ServiceSpec, own_name: str, servers: Sequence[Server]
) -> list[tuple[str, EnvsyncError | None]]:
    """Return each server with the reason why the service cannot log in there, or None.

    All are tried by one child process. Raises `ServiceFailed` if the program cannot be run this
    way, or the error that ended it: the user cannot read the inventory.
    """
    by_name = {server.name: server for server in servers}
    argv = [str(service.program), "daemon", "try-servers", "--json"]
    argv += ["--config", str(service.inventory), "--as", own_name, "--", *by_name]
    document = _json_of(argv, service, (1 + len(by_name) // _PARALLEL_MAX) * _SECONDS_EACH)
    if document["result"] is None:
        error = error_from_json(document["error"])
        error.message = f"as {service.account.name}: {error.message}"
        raise error
    errors = {
        outcome["server"]: outcome["error"] and error_from_json(outcome["error"])
        for outcome in document["result"]["servers"]
    }
    return [(name, errors[name]) for name in by_name]


def _json_of(argv: list[str], service: ServiceSpec, within_seconds: float) -> dict[str, Any]:
    """Return the document that the command prints as the service's user."""
    try:
        done = subprocess.run(
            argv,
            capture_output=True,
            text=True,
            errors="backslashreplace",
            check=False,
            timeout=within_seconds,
            **process_options(service),
        )
    except OSError as error:
        raise _failure(service, error.strerror or str(error)) from error
    except subprocess.TimeoutExpired as error:
        raise _failure(service, f"no answer within {error.timeout:.0f} s") from error
    try:
        document: dict[str, Any] = json.loads(done.stdout)
    except ValueError as error:
        last_lines = done.stderr.strip().splitlines()[-_STDERR_LINES:]
        raise _failure(service, f"exit status {done.returncode}", last_lines) from error
    return document


def _failure(service: ServiceSpec, why: str, details: Sequence[str] = ()) -> ServiceFailed:
    account = service.account
    return ServiceFailed(
        f"{service.program} cannot be run as {account.name}: {why}",
        details=details,
        hint=f"install envsync where {account.name} may read it",
    )


def process_options(service: ServiceSpec) -> dict[str, Any]:
    """Return the `subprocess` options that start a process as the service's user."""
    account = service.account
    environ = {
        "PATH": CLOSED_PATH,
        "HOME": str(account.home),
        "USER": account.name,
        "LOGNAME": account.name,
        "KRB5CCNAME": _NO_TICKET,
        **service.variables,
    }
    options: dict[str, Any] = {"env": environ, "cwd": "/", "stdin": subprocess.DEVNULL}
    if os.geteuid() != account.uid:
        groups = os.getgrouplist(account.name, account.gid)
        options |= {"user": account.uid, "group": account.gid, "extra_groups": groups}
    return options


def advise_service(error: EnvsyncError | None, server: Server) -> None:
    """Give an error a hint that helps a service: unlocking a key in a session does not."""
    if isinstance(error, AuthenticationRefused) and error.lacks_usable_key:
        host = f"{server.user}@{server.host}" if server.user else server.host
        copy = ["-p", str(server.port)] if server.port else []
        copy = ["ssh-copy-id", "-i", "~/.ssh/envsync.pub", *copy, shlex.quote(host)]
        error.hint = (
            "a key without a passphrase, for the service (with `identity_file: ~/.ssh/envsync` in "
            "the inventory): ssh-keygen -t ed25519 -N '' -f ~/.ssh/envsync; "
            f"{' '.join(copy)}"
        )


@click.command("try-servers", hidden=True)
@click.argument("servers", nargs=-1, metavar="SERVER...")
@click.option("--as", "as_name", metavar="NAME")
@common_options
@click.pass_obj
def try_servers(invocation: Invocation, servers: tuple[str, ...], as_name: str | None) -> None:
    """Open a link to each SERVER, and start the agent there."""
    from envsync.cli.invocation.site import link_opener
    from envsync.push.ends.end import End
    from envsync.push.queries.servers import for_each_server
    from envsync.push.request.places import Place

    site = invocation.site(as_name)
    places = [
        Place(server.name, site.prefix(server), link_opener(server, use_masters=False))
        for server in site.inventory.select(servers)
    ]

    def nothing_more(end: End, place: Place) -> None:
        del end, place

    outcomes = for_each_server(places, nothing_more, at_once=_PARALLEL_MAX)
    for outcome in outcomes:
        advise_service(outcome.error, site.inventory.server(outcome.server))
    invocation.result = {"servers": [outcome.document() for outcome in outcomes]}
    for outcome in outcomes:
        invocation.terminal.say(f"{outcome.server}: {outcome.error or 'the service can log in'}")
