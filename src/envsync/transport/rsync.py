"""The transport rsync: the system's rsync on both ends, over the system's ssh.

It sends only contents, each file as a new one. If one of the files has 1 MiB or more, those of
which the live tree has an older version go as a delta. What rsync could not send goes by stream.
"""

from __future__ import annotations

import shutil
from functools import partial

from envsync.agent.server.program_version import version_text
from envsync.agent.server.rsync_run import RsyncRun
from envsync.errors import ConnectionFailed, TransferFailed
from envsync.transport import rsync_command
from envsync.transport.job import Job, Sent
from envsync.transport.link_rate import bytes_per_second
from envsync.transport.names import RSYNC
from envsync.transport.rsync_command import RsyncSender, sender_argv
from envsync.transport.rsync_failures import PARTIAL_EXIT_CODES, is_full
from envsync.transport.rsync_output import Output
from envsync.transport.rsync_steps import failed_run, follow, receiver, receiver_refusal, stamped
from envsync.transport.stream import StreamTransport

# About the rate of zstd at level 1 on one processor.
_COMPRESS_BELOW_BYTES_PER_SECOND = 150e6
_PROBE_FROM_BYTES = 16 << 20


class RsyncTransport:
    """Sends by rsync; needs it on both ends, and ssh on this machine."""

    name = RSYNC

    def refusal(self, job: Job) -> str | None:
        if job.supply.relayed is not None:
            return "the source is another server"
        if job.target.link is None:
            return "the target is this machine"
        if shutil.which("rsync") is None:
            return "there is no rsync on this machine"
        try:
            job.target.link.ssh_argv()
        except ConnectionFailed as error:
            return error.message
        return receiver_refusal(job)

    def send(self, job: Job) -> Sent:
        plain = [item for item in job.items if item[0] not in job.rewritten]
        rewritten = [item for item in job.items if item[0] in job.rewritten]
        if not rewritten:
            return self._send(job)
        # The source has these with other contents than the target must have.
        sent = self._send(job.only(plain)) if plain else Sent(0)
        return sent + StreamTransport().send(job.only(rewritten))

    def _send(self, job: Job) -> Sent:
        output = Output()
        run = RsyncRun(_argv(job), partial(follow, job, output))
        exit_code = run.finish(path for path, _ in job.items)
        if exit_code not in (0, *PARTIAL_EXIT_CODES) or is_full(run.stderr):
            raise failed_run(job, exit_code, run.stderr)
        return stamped(job, output)


def _argv(job: Job) -> list[bytes]:
    link = job.target.link
    assert link is not None
    program = shutil.which("rsync")
    receiving = receiver(job)
    if program is None or not receiving.path:
        raise TransferFailed("rsync is not on both ends any more")
    sender = RsyncSender(program, job.supply.path, link.ssh_argv(), link.reached.alias)
    compress = _compresses(job, program, receiving.version)
    return sender_argv(job, sender, receiving.path, compress=compress)


def _compresses(job: Job, program: str, version_text_there: str) -> bool:
    """Return whether to compress: if both have zstd, and much goes over a slow or limited link."""
    if job.size_bytes < _PROBE_FROM_BYTES or not rsync_command.speaks_zstd(version_text_there):
        return False
    if not rsync_command.speaks_zstd(version_text(program)):
        return False
    return job.limit_bits_per_second is not None or (
        bytes_per_second(job) < _COMPRESS_BELOW_BYTES_PER_SECOND
    )
