"""Opens a link to a server by the implementation that can handle the route."""

from __future__ import annotations

import os
from collections.abc import Mapping

from paramiko.ssh_exception import IncompatiblePeer

from envsync.errors import (
    AuthenticationRefused,
    ConnectionFailed,
    ConnectionLost,
    EnvsyncError,
    HostKeyRefused,
)
from envsync.ssh import choice
from envsync.ssh.account import how_to_get_ssh
from envsync.ssh.route import ResolvedRoute
from envsync.ssh.session import Address, Link, LinkChoice, Timeouts


def open_link(
    address: Address,
    timeouts: Timeouts = Timeouts(),  # noqa: B008 - frozen
    *,
    environ: Mapping[str, str] | None = None,
    use_masters: bool = True,
) -> Link:
    """Return an authenticated link; raises as `session.Link` says.

    HOME, SSH_AUTH_SOCK and PATH are looked up in `environ`, by default the process's own. With
    `use_masters` the link goes over the user's own ControlMaster if one is live.
    """
    route = ResolvedRoute.find(address, os.environ if environ is None else environ)
    if not use_masters:
        route = route.without_masters()
    timeouts = timeouts.at_least(route.connect_timeout_seconds)
    reason = choice.reason_for_ssh(route)
    if route.config.ssh_command is None:
        return _without_ssh(route, timeouts, reason)
    if reason is not None:
        return _by_ssh(route, timeouts, reason)
    try:
        return _by_fabric(route, timeouts)
    except EnvsyncError as refused:
        if not _may_let_in_another_client(refused):
            raise
        return _second_try(route, timeouts, refused)


def _may_let_in_another_client(error: EnvsyncError) -> bool:
    """Return whether a key, a method or an algorithm may be what is missing."""
    return isinstance(error, AuthenticationRefused) or isinstance(error.__cause__, IncompatiblePeer)


def _second_try(route: ResolvedRoute, timeouts: Timeouts, refused: EnvsyncError) -> Link:
    """Try once as the user would by hand; if that fails too, raise the error to act on.

    That is the first one. But if fabric was not let in and ssh does not get as far as the login,
    nobody knows yet whether the server refuses the user.
    """
    reason = f"it can connect where fabric could not: {refused.message}"
    try:
        return _by_ssh(route, timeouts, reason)
    except EnvsyncError as error:
        is_unreached = isinstance(error, ConnectionLost) or (
            isinstance(error, ConnectionFailed) and not error.was_during_login
        )
        if is_unreached and isinstance(refused, AuthenticationRefused):
            error.details = (*error.details, f"fabric: {refused.message}", *refused.details)
            raise
        refused.details = (*refused.details, f"the system's ssh: {error.message}")
        raise refused from error


def _without_ssh(route: ResolvedRoute, timeouts: Timeouts, reason: str | None) -> Link:
    try:
        return _by_fabric(route, timeouts)
    except EnvsyncError as error:
        if reason is None:
            raise
        if isinstance(error, (AuthenticationRefused, HostKeyRefused)):
            error.hint = f"{how_to_get_ssh()}; it supports what is needed here"
            error.details = (*error.details, f"needs the system's ssh: {reason}")
        else:
            error.details = (*error.details, f"may need the system's ssh: {reason}")
        raise


def _by_fabric(route: ResolvedRoute, timeouts: Timeouts) -> Link:
    from envsync.ssh import fabric_link  # imported here because it takes 0.2 s

    return fabric_link.open_route(route, timeouts)


def _by_ssh(route: ResolvedRoute, timeouts: Timeouts, reason: str) -> Link:
    from envsync.ssh import openssh_link

    return openssh_link.open_route(route, timeouts, chosen=LinkChoice(choice.OPENSSH, reason))
