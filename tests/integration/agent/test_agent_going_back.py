"""Rollbacks: an earlier version at the name again, exactly."""

from __future__ import annotations

import pytest

from envsync.errors import NotFound, PreflightRefused, TargetDrifted
from tests.integration.agent.versions import (
    ONE,
    THREE,
    TWO,
    revision,
    shift,
)
from tests.unit.agent import disk
from tests.unit.agent.pushes import Server, records, require_sound

pytestmark = pytest.mark.usefixtures("each_way")


def test_rollback_gives_the_old_bytes_back_exactly(server: Server) -> None:
    server.push(ONE)
    before = server.manifest()
    server.push(TWO)
    server.rollback()
    assert server.manifest() == before
    assert revision(TWO) in records(server).held()
    require_sound(server)


def test_rollback_goes_further_back_each_time_and_forward_by_number(server: Server) -> None:
    for version in (ONE, TWO, THREE):
        server.push(version, keep=2)
    back = [server.rollback().revision for _ in range(2)]
    assert back == [revision(TWO), revision(ONE)]
    with pytest.raises(NotFound):
        server.rollback()
    assert server.rollback(3).revision == server.revision() == revision(THREE)
    require_sound(server)


def test_what_was_rolled_back_is_not_gone_back_to_after_the_next_push(server: Server) -> None:
    for version in (ONE, TWO):
        server.push(version, keep=3)
    server.rollback()
    server.push(THREE, keep=3)
    assert server.rollback().revision == revision(ONE)
    assert server.rollback(2).revision == revision(TWO), "but by its number"
    require_sound(server)


def test_the_version_that_a_push_replaces_stays_also_after_a_rollback(server: Server) -> None:
    """It is older then than what was rolled back, which a job may still write into."""
    server.push(ONE)
    server.push(TWO)
    server.rollback()
    (rolled_back,) = server.earlier()
    disk.write(rolled_back + b"/lib/late", b"by a job")
    server.push(THREE)
    assert server.rollback().revision == server.revision() == revision(ONE)


def test_rollback_of_a_changed_environment_is_refused_until_told(server: Server) -> None:
    server.push(ONE)
    server.push(TWO)
    shift(server)
    with pytest.raises(TargetDrifted):
        server.rollback()
    server.rollback(overwrite=True)
    assert server.revision() == revision(ONE)
    require_sound(server)


def test_rollback_to_a_damaged_generation_is_refused(server: Server) -> None:
    server.push(ONE)
    server.push(TWO)
    (tree,) = server.earlier()
    disk.shift_content(tree + b"/lib/shared")
    with pytest.raises(PreflightRefused, match="changed"):
        server.rollback()
    assert server.revision() == revision(TWO)


@pytest.mark.parametrize("number", [None, 7])
def test_rollback_to_nothing(number: int | None, server: Server) -> None:
    server.push(ONE)
    with pytest.raises(NotFound):
        server.rollback(number)
