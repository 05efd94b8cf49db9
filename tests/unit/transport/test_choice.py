"""Which transport is taken, and what is said where one cannot be."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any

import pytest

from envsync.agent.wire.checked_json import Arguments
from envsync.errors import TransferFailed, UsageError
from envsync.transport.choice import choose
from envsync.transport.job import Item, Job


def ask(
    operation: str,
    arguments: Arguments | None = None,
    payload: bytes = b"",
    stream: Iterable[bytes] | None = None,
    on_progress: object = None,
) -> Any:
    raise AssertionError("nobody needs to be asked")


def contents(items: Collection[Item], progress: object = None) -> Iterator[bytes]:
    raise AssertionError("nothing is read")


JOB = Job(
    link=None,
    source_path=b"/prefix/envs/myenv",
    items=(),
    all_fetches=True,
    tree="/prefix/envs/.envsync/myenv/trees/0123",
    token="0123",
    python="/prefix/bin/python",
    ask=ask,
    contents=contents,
    codecs=("none",),
    limit_bits_per_second=None,
    on_sent=lambda _: None,
)


def test_automatic_is_stream_and_says_why() -> None:
    choice = choose("auto", JOB)
    assert choice.transport.name == "stream"
    assert "Python" in choice.reason


def test_a_named_one_is_taken() -> None:
    assert choose("stream", JOB).reason == "requested"


@pytest.mark.parametrize("name", ["rsync", "scp"])
def test_a_named_one_that_cannot_is_refused_with_its_reason(name: str) -> None:
    with pytest.raises(TransferFailed, match=rf"{name} cannot be used: the target is this machine"):
        choose(name, JOB)


def test_an_unknown_name_is_a_usage_error_that_lists_them() -> None:
    with pytest.raises(UsageError) as caught:
        choose("ftp", JOB)
    assert caught.value.hint == "one of: auto, stream, rsync, scp"
