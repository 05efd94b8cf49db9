"""What is said of processes that use the environment there."""

from __future__ import annotations

import pytest

from envsync.agent.wire.messages import ProcessUse
from envsync.push.preflight.in_use import used_there


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (1, "a process uses the environment there, and so on"),
        (2, "2 processes use the environment there, and so on"),
        (13, "13 processes use the environment there, and so on"),
    ],
)
def test_each_is_named_as_far_as_there_is_room(count: int, said: str) -> None:
    uses = [ProcessUse(number, f"job {number}") for number in range(count)]
    error = used_there(uses, "end them", then=", and so on")
    assert (error.message, error.hint) == (said, "end them")
    assert error.details == tuple(f"{number}  job {number}" for number in range(min(count, 12)))
