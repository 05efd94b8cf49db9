"""The transport rsync: the system's rsync on both ends, over the system's ssh.

It sends only contents, each file as a new one. If one of the files has 1 MiB or more, those of
which the live tree has an older version go as a delta. What rsync could not send goes by stream.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection
from dataclasses import replace
from functools import partial

from envsync.agent.server.program_version import version_text
from envsync.agent.server.rsync_run import RsyncRun
from envsync.agent.wire.server_operations import HELLO
from envsync.agent.wire.transfer_operations import FIND_RSYNC, STAMP, RsyncFacts
from envsync.errors import ConnectionFailed, ConnectionLost, EnvsyncError, TransferFailed
from envsync.transport import rsync_command
from envsync.transport.job import Item, Job, Sent
from envsync.transport.link_rate import bytes_per_second
from envsync.transport.names import RSYNC
from envsync.transport.rsync_command import RsyncSender, sender_argv
from envsync.transport.rsync_failures import PARTIAL_EXIT_CODES, failure, is_full
from envsync.transport.rsync_output import Output
from envsync.transport.stream import StreamTransport, failed_paths

_OLDEST_VERSION = (3, 1)
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
        plain = [item for item in job.items if item[0] not in job.elsewhere]
        rewritten = [item for item in job.items if item[0] in job.elsewhere]
        if not rewritten:
            return self._send(job)
        # The source has these with other contents than the target must have.
        sent = self._send(job.only(plain)) if plain else Sent(0)
        return sent + StreamTransport().send(job.only(rewritten))

    def _send(self, job: Job) -> Sent:
        output = Output()
        run = RsyncRun(_argv(job), partial(follow, job, output))
        exit_code = run.finish(path for path, _ in job.items)
        if exit_code not in (0, *PARTIAL_EXIT_CODES) or is_full(run.said):
            raise failed_run(job, exit_code, run.said)
        return stamped(job, output)


def follow(job: Job, output: Output, data: bytes) -> None:
    """Report rsync's progress to the job from what rsync has printed since the last call."""
    files_before = output.files
    job.on_sent(output.feed(data))
    if output.files > files_before:
        job.on_files(output.files - files_before)


def stamped(job: Job, output: Output) -> Sent:
    """Have the agent stamp the files that rsync brought; send by stream those it did not.

    Those are paths beyond its limits, and files that changed size.
    """
    sent = Sent(output.wire_bytes)
    failed = set(failed_paths(job.target.ask(STAMP, job.selection())))
    again = [item for item in job.items if item[0] in failed]
    return sent + StreamTransport().send(after_rsync(job, again, output)) if failed else sent


def after_rsync(job: Job, items: Collection[Item], output: Output) -> Job:
    """Return the job for the files that have to be sent again, which rsync may have counted."""
    again = job.only(items)
    counted_bytes = output.sent_bytes - (job.size_bytes - again.size_bytes)
    counted_files = output.files - (len(job.items) - len(items))
    return replace(
        again,
        on_sent=_beyond(counted_bytes, job.on_sent),
        on_files=_beyond(counted_files, job.on_files),
    )


def _beyond(counted: int, report: Callable[[int], None]) -> Callable[[int], None]:
    """Return a `report` that leaves out what was counted already."""
    left = max(0, counted)

    def report_rest(number: int) -> None:
        nonlocal left
        known = min(left, number)
        left -= known
        report(number - known)

    return report_rest


def receiver(job: Job) -> RsyncFacts:
    """Return facts about the rsync on the server."""
    return job.target.ask(FIND_RSYNC, None)


def receiver_refusal(job: Job) -> str | None:
    """Return why the server cannot receive by rsync; None if it can."""
    if not rsync_command.is_plain(job.target.python):
        return "the path of Python there has characters that login shells treat differently"
    if job.target.prints_at_login:
        return "its login files print something, which rsync cannot skip"
    receiving = receiver(job)
    if not receiving.path:
        return "there is no rsync on the server"
    return "its rsync is older than 3.1" if is_old(receiving.version) else None


def is_old(version_text: str) -> bool:
    """Return whether `rsync --version` printed a version too old for the options used here."""
    return (rsync_command.version(version_text) or (0, 0)) < _OLDEST_VERSION


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


def failed_run(job: Job, exit_code: int, said: str) -> EnvsyncError:
    assert job.target.link is not None
    is_link_alive = True
    if exit_code > 0:
        try:
            job.target.ask(HELLO, None)
        except ConnectionLost:
            is_link_alive = False
    return failure(exit_code, said, job.target.link.server, is_link_alive=is_link_alive)
