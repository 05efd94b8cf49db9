"""The steps that the two transports by rsync share: before, during and after a run of it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

from envsync.agent.wire.server_operations import HELLO
from envsync.agent.wire.transfer_operations import FIND_RSYNC, STAMP, RsyncFacts
from envsync.errors import ConnectionLost, EnvsyncError
from envsync.transport import rsync_command
from envsync.transport.job import Item, Job, Sent
from envsync.transport.rsync_failures import failure
from envsync.transport.rsync_output import Output
from envsync.transport.stream import StreamTransport, failed_paths

_OLDEST_VERSION = (3, 1)


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


def failed_run(job: Job, exit_code: int, stderr: str) -> EnvsyncError:
    assert job.target.link is not None
    is_link_alive = True
    if exit_code > 0:
        try:
            job.target.ask(HELLO, None)
        except ConnectionLost:
            is_link_alive = False
    return failure(exit_code, stderr, job.target.link.server, is_link_alive=is_link_alive)
