"""`envsync daemon install`: lets systemd run the daemon, and tests whether it can do its work."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from envsync.cli.invocation.invocation import Invocation
from envsync.cli.invocation.options import common_options
from envsync.cli.output.terminal import Terminal
from envsync.errors import EnvsyncError, ServiceFailed, SomeServersFailed, UsageError, listed

if TYPE_CHECKING:
    from envsync.cli.daemon.service_plan import ServicePlan
    from envsync.daemon.systemd.installation import Written
    from envsync.daemon.systemd.systemctl import Systemctl
    from envsync.daemon.systemd.units import Unit


@click.command()
@click.option("--user", "of_user", is_flag=True, help="Use your own systemd; needs no root.")
@click.option("--as", "as_name", metavar="NAME", help="This machine's name in the inventory.")
@click.option("-n", "--dry-run", is_flag=True, help="Show what would be written; change nothing.")
@common_options
@click.pass_obj
def install(invocation: Invocation, of_user: bool, as_name: str | None, dry_run: bool) -> None:
    """Let systemd run the daemon, now and after each boot. Run it again after a change.

    The login to each of its servers is tested with what a service has: no ssh-agent, no
    passphrase, no ticket. Those that fail are named.
    """
    from envsync.cli.daemon import service_plan, service_trial

    plan = service_plan.find(invocation, of_user=of_user, as_name=as_name)
    if not (plan.may_write or dry_run):
        raise _needs_root(plan)
    other = plan.other_daemon()
    if other is not None and not dry_run:
        raise other
    invocation.result = result = _document(plan, dry_run=dry_run)
    # First, because it fails if the user cannot run the program or read the inventory: a service
    # that works is not replaced by one that cannot.
    tried = service_trial.trial(plan.service, plan.own_name, plan.targets)
    result["servers"] = [
        {"server": server, "error": None if error is None else error.to_json()}
        for server, error in tried
    ]
    if dry_run:
        _show(invocation.terminal, plan.unit)
        if other is not None:
            invocation.terminal.warning(other.message)
            invocation.terminal.hint(other.hint)
    else:
        _install(invocation, plan, result)
    _tell_servers(invocation.terminal, plan, tried)


def _needs_root(plan: ServicePlan) -> UsageError:
    return UsageError(
        "installing a system service needs root",
        hint=f"without root, the same with --user instead of sudo; with root: {plan.sudo_line}",
    )


def _document(plan: ServicePlan, *, dry_run: bool) -> dict[str, Any]:
    service = plan.service
    return {
        "unit": plan.unit.name,
        "user": service.account.name,
        "self": plan.own_name,
        "inventory": str(service.inventory),
        "dry_run": dry_run,
        "files": [
            {"path": str(file.path), "content": file.content, "changed": None, "before": None}
            for file in plan.unit.files
        ],
        "done": None,
        "status": "",
        "lingers": None,
        "servers": [],
    }


def _show(terminal: Terminal, unit: Unit) -> None:
    for file in unit.files:
        terminal.say(f"{file.path}:")
        for line in file.content.splitlines():
            terminal.say_unfolded(f"  {line}" if line else "")
        terminal.say()


def _install(invocation: Invocation, plan: ServicePlan, result: dict[str, Any]) -> None:
    from envsync.daemon.systemd import installation

    terminal = invocation.terminal
    for directory in plan.service.temporary_directories:
        terminal.warning(
            f"{directory} may be emptied, but the service needs it: move what is in it"
        )
    plan.make_directories()
    written = installation.write(plan.unit)
    for file, outcome in zip(result["files"], written, strict=True):
        file["changed"] = outcome.changed
        file["before"] = None if outcome.before is None else str(outcome.before)
        before = f"; the old file is {outcome.before}" if outcome.before else ""
        terminal.say(f"{outcome.path}: {'written' if outcome.changed else 'unchanged'}{before}")
    rival = plan.rival()
    if rival is not None:
        terminal.warning(f"{rival.name} is enabled, too, but only one of both can run")
        terminal.hint(plan.disabling(rival))
    systemctl = plan.systemctl
    if not systemctl.runs():
        _tell_no_systemd(terminal, plan)
        return
    result["done"] = _activate(systemctl, plan.unit, written)
    result["status"] = systemctl.property(plan.unit.name, "StatusText")
    status = f": {result['status']}" if result["status"] else ""
    terminal.say(f"{plan.unit.name}: enabled and {result['done']}{status}")
    if systemctl.of_user:
        result["lingers"] = plan.lingers()
        if not result["lingers"]:
            terminal.warning(
                f"it ends when {plan.service.account.name} logs out, and does not start at boot; "
                f"change that: sudo loginctl enable-linger {plan.service.account.name}"
            )


def _activate(systemctl: Systemctl, unit: Unit, written: Sequence[Written]) -> str:
    from envsync.daemon.systemd import installation

    changed = any(file.changed for file in written)
    try:
        return installation.activate(systemctl, unit, changed=changed)
    except ServiceFailed as error:
        if not systemctl.of_user and os.geteuid() != 0:
            error.hint = "run it with sudo"
        raise


def _tell_no_systemd(terminal: Terminal, plan: ServicePlan) -> None:
    name, systemctl = plan.service.account.name, plan.systemctl
    if systemctl.of_user:
        terminal.warning(
            f"not started: {name}'s own systemd does not run; "
            f"start it, then run this again: sudo loginctl enable-linger {name}"
        )
    else:
        line = systemctl.shown("enable", "--now", plan.unit.name)
        terminal.warning(f"not started: systemd does not run here; once it does: {line}")


def _tell_servers(
    terminal: Terminal, plan: ServicePlan, tried: Sequence[tuple[str, EnvsyncError | None]]
) -> None:
    """Report the servers that the service can reach, and why it cannot reach the others."""
    if not tried:
        terminal.warning(
            f"there is nothing to do: no environment has `source: {plan.own_name}`, "
            "`watch: true` and a server to push to"
        )
        return
    reached = [server for server, error in tried if error is None]
    errors: list[EnvsyncError] = [error for _, error in tried if error is not None]
    if reached:
        terminal.say(f"the service can log in to: {listed(reached)}")
    if errors:
        terminal.errors(errors)
        raise SomeServersFailed(
            f"the service cannot log in to {len(errors)} of {len(tried)} servers",
            hint=f"correct that as {plan.service.account.name}, then run this again",
        )
