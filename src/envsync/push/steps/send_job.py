"""Makes the job by which a push's files are sent."""

from __future__ import annotations

from collections.abc import Collection

from envsync.push.ends.both_ends import BothEnds
from envsync.push.steps.progress import ProgressTracker
from envsync.transport.job import Item, Job, Receiver


def send_job(ends: BothEnds, progress: ProgressTracker, items: Collection[Item]) -> Job:
    """Return the job for these files, for a staging tree that is still to be made."""
    settings, source, target = ends
    return Job(
        supply=source.supply,
        target=Receiver(
            target.link, target.ask, target.python, target.codecs, target.prints_at_login
        ),
        items=items,
        all_fetches=True,
        tree="",
        token="",
        limit_bits_per_second=settings.limit_bits_per_second,
        on_sent=progress.sent,
        on_files=progress.sent_files,
    )
