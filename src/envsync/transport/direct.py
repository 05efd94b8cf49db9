"""The direct transport: from a source on another server directly to the target, by rsync.

The source's server logs in to the target with its own ssh, keys and known hosts. If those do not
suffice and the user's ssh configuration forwards the agent to that server, it gets the user's
agent while it tries to log in and while it sends, and nothing else. Whether it has reached the
right target is decided there: the writer that starts rsync finds the staging tree with this push's
token, or writes nothing (`agent.staging.writer_guard`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from envsync.agent.wire.source_operations import RsyncEnded
from envsync.errors import AgentFailed
from envsync.transport.job import Direct, Job, Sent
from envsync.transport.names import DIRECT
from envsync.transport.rsync_command import RsyncSender, sender_argv, speaks_zstd
from envsync.transport.rsync_failures import PARTIAL_EXIT_CODES, is_full
from envsync.transport.rsync_output import Output
from envsync.transport.rsync_steps import (
    after_rsync,
    failed_run,
    follow,
    is_old,
    receiver,
    receiver_refusal,
    stamped,
)
from envsync.transport.stream import StreamTransport

WORTHWHILE_BYTES = 16 << 20
"""A smaller transfer is through this machine sooner than a direct way could be found."""

_SSH = (
    *("ssh", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", "ConnectTimeout=15"),
    *("-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=4", "-o", "ForwardAgent=no"),
    # By default ssh adds further host keys of the server to known_hosts.
    *("-o", "UpdateHostKeys=no"),
)


class DirectTransport:
    """Sends by rsync between two servers; needs it on both, and a login from one to the other."""

    name = DIRECT

    def refusal(self, job: Job) -> str | None:
        direct = job.supply.direct
        assert direct is not None
        program = direct.rsync()
        if not program.path or is_old(program.version):
            return "the source has no rsync 3.1 or newer"
        return receiver_refusal(job) or _refused(direct, job)

    def reason(self, job: Job) -> str:
        """Return how the source gets into the target, for a job that is not refused."""
        assert job.supply.direct is not None
        if job.supply.direct.agent_forwarded:
            return (
                "the source logs in to the target with your agent, forwarded to "
                f"{job.supply.direct.server} as your ssh configuration says (ForwardAgent)"
            )
        return "the source logs in to the target by itself"

    def send(self, job: Job) -> Sent:
        direct = job.supply.direct
        assert direct is not None
        argv = _argv(direct, job)
        ended = RsyncEnded(-1, "")

        def printed() -> Iterator[bytes]:
            nonlocal ended
            ended = yield from direct.run(argv, [path for path, _ in job.items])

        output = Output()
        for data in printed():
            follow(job, output, data)
        if is_full(ended.stderr):
            raise failed_run(job, ended.exit_code, ended.stderr)
        # What rsync did not bring goes through this machine.
        if ended.exit_code in (0, *PARTIAL_EXIT_CODES):
            return stamped(job, output)
        again = after_rsync(job, job.items, output)
        return replace(StreamTransport().send(again), instead=_failed(direct.server, ended))


def _failed(server: str, ended: RsyncEnded) -> str:
    lines = ended.stderr.strip().splitlines()
    reason = lines[-1][:200] if lines else f"exit status {ended.exit_code}"
    return f"through this machine: rsync from {server} failed ({reason})"


def _refused(direct: Direct, job: Job) -> str | None:
    reached = direct.reach(_logins(job))
    if reached.which >= 0:
        return None
    or_by_agent = " or with your forwarded agent" if direct.agent_forwarded else ""
    return f"{direct.server} cannot log in there by itself{or_by_agent} ({reached.reason})"


def _logins(job: Job) -> list[list[str]]:
    """Return the ssh commands by which the source's server can try to log in to the target.

    The first uses that server's own configuration of the alias, the second our user, host and port.
    """
    assert job.target.link is not None
    to = job.target.link.reached
    return [[*_SSH, to.alias], [*_SSH, "-l", to.user, "-p", str(to.port), to.hostname]]


def _argv(direct: Direct, job: Job) -> list[bytes]:
    reached = direct.reach(_logins(job))
    sending, receiving = direct.rsync(), receiver(job)
    if reached.which not in (0, 1) or not receiving.path:
        raise AgentFailed("the source cannot log in to the target any more")
    *ssh_argv, ssh_host = _logins(job)[reached.which]
    sender = RsyncSender(sending.path, direct.source_path, ssh_argv, ssh_host)
    compress = speaks_zstd(sending.version) and speaks_zstd(receiving.version)
    return sender_argv(job, sender, receiving.path, compress=compress)
