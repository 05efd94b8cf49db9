"""Connects to a server by an ssh process of our own, or raises why it cannot."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from envsync.ssh import openssh_failures, system_ssh
from envsync.ssh.handshakes import Dropped, HandshakeLimiter
from envsync.ssh.openssh_failures import HopLog
from envsync.ssh.openssh_master import Master, MasterEnded, MasterSilent
from envsync.ssh.route import ResolvedRoute
from envsync.ssh.session import Timeouts


@dataclass(frozen=True, slots=True)
class RunningSsh:
    """A running ssh, by its control socket; `master` is None if it is the user's."""

    control_path: Path
    master: Master | None = None

    def close(self) -> None:
        """End it, unless it is the user's."""
        if self.master is not None:
            self.master.close()


def connect(
    route: ResolvedRoute,
    timeouts: Timeouts,
    limiter: HandshakeLimiter,
    *,
    forwards_agent: bool = False,
) -> RunningSsh:
    """Return a connected ssh of our own; the limiter retries dropped handshakes.

    Raises the error that says why there is none; no process of it is left then.
    """
    first = route.hops[0].settings
    attempt = partial(_connected, route, timeouts, forwards_agent=forwards_agent)
    master = limiter.call(first.hostname, first.port, attempt)
    return RunningSsh(master.control_path, master)


def _connected(route: ResolvedRoute, timeouts: Timeouts, *, forwards_agent: bool) -> Master:
    argv = partial(system_ssh.ssh_argv, route, timeouts, forwards_agent=forwards_agent)
    master = Master(argv, route.last.settings.alias, route.config.environ)
    handshake_seconds = len(route.hops) * (timeouts.connect_seconds + timeouts.banner_seconds)
    try:
        master.await_connection(handshake_seconds + timeouts.authentication_seconds)
    except MasterSilent:
        logs = _logs(route, master)
        master.close()
        raise openssh_failures.silence(logs, timeouts, handshake_seconds) from None
    except MasterEnded:
        logs, printed = _logs(route, master), master.printed
        master.close()
        error = openssh_failures.meaning(logs, printed)
        if openssh_failures.is_dropped(logs, printed):
            raise Dropped(error) from None
        raise error from None
    except BaseException:
        master.close()
        raise
    return master


def _logs(route: ResolvedRoute, master: Master) -> list[HopLog]:
    return [
        HopLog.of(hop.place, master.log(system_ssh.log_name(number)))
        for number, hop in enumerate(route.hops)
    ]
