"""Which transport is taken, and what is said where one cannot be."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, cast

import pytest

from envsync.errors import TransferFailed
from envsync.transport.choice import automatic, named
from envsync.transport.job import Supply
from tests.support.transport_job import JOB, contents

if TYPE_CHECKING:
    from envsync.ssh.session import Link
    from envsync.transport.job import Relayed


def test_automatic_is_stream_and_says_why() -> None:
    choice = automatic(JOB)
    assert choice.transport.name == "stream"
    assert "Python" in choice.reason


def test_relocated_files_go_through_this_machine_with_a_reason() -> None:
    """The source's server has no such files that it could send directly to the target."""
    choice = automatic(
        replace(
            JOB,
            target=replace(JOB.target, link=cast("Link", object())),
            supply=Supply(relayed=cast("Relayed", contents)),
        ),
    )
    assert choice.transport.name == "stream"
    assert choice.reason == "through this machine: paths in it are changed on the way"


def test_named_transport_is_taken() -> None:
    choice = named("stream", JOB)
    assert choice is not None
    assert choice.reason == "requested"


def test_no_transport_is_named_by_auto() -> None:
    assert named("auto", JOB) is None


@pytest.mark.parametrize("name", ["rsync", "scp"])
def test_named_transport_that_cannot_be_used_is_refused_with_a_reason(name: str) -> None:
    with pytest.raises(TransferFailed, match=rf"{name} cannot be used: the target is this machine"):
        named(name, JOB)
