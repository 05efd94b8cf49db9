"""A job that nobody carries out."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from envsync.transport.job import Item, Job, Receiver, Supply


def ask(*_: object, **__: object) -> Any:
    raise AssertionError("nobody needs to be asked")


def contents(items: Collection[Item], progress: object = None) -> Iterator[bytes]:
    raise AssertionError("nothing is read")


JOB = Job(
    supply=Supply(b"/prefix/envs/myenv", contents),
    target=Receiver(None, ask, "/prefix/bin/python", ("none",)),
    items=(),
    all_fetches=True,
    tree="/prefix/envs/.envsync/myenv/trees/0123",
    token="0123",
    limit_bits_per_second=None,
    on_sent=lambda _: None,
)
