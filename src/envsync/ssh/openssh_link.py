"""A link by the system's `ssh`, for what paramiko cannot do.

One `ssh` holds the connection, the user's own if one is running, and every session goes over it
(see `mux`).
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import IO

from envsync.errors import AuthenticationRefused, ConnectionFailed
from envsync.ssh import choice, connection_errors, mux, sftp_upload, system_ssh
from envsync.ssh.agent_forwarding import may_forward_agent
from envsync.ssh.handshakes import SHARED_LIMITER, HandshakeLimiter
from envsync.ssh.mux import SessionRefused, SessionRequest
from envsync.ssh.openssh_connecting import RunningSsh, connect
from envsync.ssh.openssh_session import OpensshSession
from envsync.ssh.route import ResolvedRoute
from envsync.ssh.session import LinkChoice, Reached, Timeouts

_ALIVE_SECONDS = 5.0


def open_route(
    route: ResolvedRoute,
    timeouts: Timeouts,
    limiter: HandshakeLimiter = SHARED_LIMITER,
    chosen: LinkChoice = LinkChoice(choice.OPENSSH, "requested"),  # noqa: B008 - frozen
) -> OpensshLink:
    """Return a link over the user's live master if there is one, else over an ssh of our own."""
    connect_again = partial(connect, route, timeouts, limiter)
    socket_path = route.last.users_socket
    first = connect_again() if socket_path is None else RunningSsh(socket_path)
    return OpensshLink(route, timeouts, chosen, first, connect_again)


def open_forwarding(route: ResolvedRoute, timeouts: Timeouts) -> OpensshLink | None:
    """Return a link over an ssh of our own whose sessions have the user's agent.

    It is what `session.Link.with_agent_forwarding` promises; None where that says so.
    """
    if not may_forward_agent(route):
        return None
    connect_again = partial(connect, route, timeouts, SHARED_LIMITER, forwards_agent=True)
    chosen = LinkChoice(choice.OPENSSH, "it forwards the agent")
    return OpensshLink(route, timeouts, chosen, connect_again(), connect_again, forwards_agent=True)


class OpensshLink:
    """A `session.Link` over a running ssh, and over further ones when it opens no more sessions.

    Some servers allow no more than `MaxSessions 1`, and the connection of a user's own master may
    be dead without its notice.
    """

    def __init__(
        self,
        route: ResolvedRoute,
        timeouts: Timeouts,
        chosen: LinkChoice,
        first: RunningSsh,
        connect_again: Callable[[], RunningSsh],
        *,
        forwards_agent: bool = False,
    ) -> None:
        """Take `connect_again` to start a further ssh when the others accept no more sessions."""
        self._route = route
        self._forwards_agent = forwards_agent
        self._timeouts = timeouts
        self._connect_again = connect_again
        self._running = [first]
        self._lock = threading.Lock()
        self._sessions: list[OpensshSession] = []
        self._closed = False
        self.chosen = chosen

    @property
    def server(self) -> str:
        return self._route.server

    @property
    def reached(self) -> Reached:
        return self._route.last.settings.reached

    def run(self, command: str) -> OpensshSession:
        return self._session(SessionRequest(command, forwards_agent=self._forwards_agent))

    def upload(
        self, source: IO[bytes], destination: bytes, progress: Callable[[int], None]
    ) -> None:
        session = self._session(SessionRequest("sftp", is_subsystem=True))
        try:
            channel = sftp_upload.SftpChannel(session)
            sftp_upload.send_file(channel, self.server, source, destination, progress)
        finally:
            session.close()

    def ssh_argv(self) -> Sequence[str]:
        return system_ssh.sharing_argv(self._route.config, self._running[0].control_path)

    def with_agent_forwarding(self) -> OpensshLink | None:
        return open_forwarding(self._route, self._timeouts)

    def close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
            sessions, running = self._sessions, self._running
        for session in sessions:
            session.close()
        for ssh in running:
            ssh.close()

    def _session(self, request: SessionRequest) -> OpensshSession:
        is_master_dead = False
        for ssh in tuple(self._running):
            try:
                return self._session_on(ssh, request)
            except SessionRefused as refusal:
                is_master_dead = isinstance(refusal.__cause__, TimeoutError)
        try:
            another = self._another()
        except AuthenticationRefused as error:
            if not is_master_dead:
                raise
            # The user logged in as nobody else can, so a key is not what is missing.
            raise self._too_slow(f"a connection of our own: {error.message}") from error
        try:
            return self._session_on(another, request)
        except SessionRefused as error:
            raise connection_errors.no_session(self._route.last.place, str(error)) from error

    def _another(self) -> RunningSsh:
        ssh = self._connect_again()
        with self._lock:
            # The newest is the first to be asked, because the others have just refused.
            self._running = [ssh, *self._running]
            closed = self._closed
        if closed:
            ssh.close()
        return ssh

    def _session_on(self, ssh: RunningSsh, request: SessionRequest) -> OpensshSession:
        """Start a session on `ssh`; raises `SessionRefused` if it takes no more."""
        if self._closed:
            raise connection_errors.lost(self.server, "the link was closed here")
        pairs = [socket.socketpair() for _ in range(3)]
        try:
            theirs = [pair[1] for pair in pairs]
            control = self._granted(ssh, request, theirs)
        except BaseException:
            for ours, _ in pairs:
                ours.close()
            raise
        finally:
            # The master has its own copies by now; closing ours leaves it the only holder of each
            # end.
            for _, stream in pairs:
                stream.close()
        stdin, stdout, stderr = (pair[0] for pair in pairs)
        session = OpensshSession(
            control, (stdin, stdout, stderr), self.server,
            self._timeouts.silence_seconds, partial(self._why_lost, ssh),
        )  # fmt: skip
        with self._lock:
            self._sessions = [earlier for earlier in self._sessions if not earlier.is_closed]
            self._sessions.append(session)
            closed = self._closed
        if closed:
            session.close()
        return session

    def _granted(
        self, ssh: RunningSsh, request: SessionRequest, streams: Sequence[socket.socket]
    ) -> socket.socket:
        seconds = self._timeouts.channel_seconds
        try:
            return mux.open_session(ssh.control_path, request, streams, seconds)
        except TimeoutError as error:
            if ssh.master is None:
                # The user's own master may not have noticed that its connection is dead.
                raise SessionRefused("it does not answer in time") from error
            raise self._too_slow() from error
        except (OSError, EOFError) as error:
            raise connection_errors.lost(self.server, self._why_lost(ssh) or error) from error

    def _too_slow(self, *details: str) -> ConnectionFailed:
        place = self._route.last.place
        return connection_errors.too_slow(place, "opened no session in time", *details)

    def _why_lost(self, ssh: RunningSsh) -> str | None:
        """Return why the connection was lost; None if its ssh still runs."""
        if self._closed:
            return "the link was closed here"
        if mux.is_alive(ssh.control_path, _ALIVE_SECONDS):
            return None
        if ssh.master is None:
            return "the ssh that held the connection (ControlMaster) ended"
        return ssh.master.last_words(system_ssh.log_name(len(self._route.hops) - 1))
