"""Which earlier version a rollback takes."""

from __future__ import annotations

import pytest

from envsync.agent.places.kept_versions import version_to_go_back_to
from envsync.agent.places.records import TAKEN_BACK, Record
from envsync.tree.manifest import Totals


def version(number: int, content: str, *, source: str = "", kept_because: str = "") -> Record:
    """Return the record of a version with this content; by default, the source's is the same."""
    return Record(
        number=number,
        revision=content,
        source_revision=source or content,
        inode=number,
        who="alice@here",
        source="here",
        when_seconds=float(number),
        method="mirror",
        transport="stream",
        totals=Totals(),
        kept_because=kept_because,
    )


A, B, C = version(1, "a"), version(2, "b"), version(3, "c")
A_AGAIN = version(4, "a")
B_ELSEWHERE = version(2, "b", source="a prefix elsewhere")
B_CHANGED = version(2, "b", kept_because="it was changed")
B_FAILED = version(2, "b", kept_because=TAKEN_BACK)


@pytest.mark.parametrize(
    ("kept", "current", "live", "removed", "held", "expected"),
    [
        pytest.param([], C, "c", None, (), None, id="nothing is kept"),
        pytest.param([A, B], C, "c", None, (), B, id="the newest"),
        pytest.param([A, C], B, "b", None, (), A, id="older than the live version"),
        pytest.param([B, C], A, "a", None, (), None, id="nothing is older"),
        pytest.param([A, B], None, "", None, (), B, id="nothing is live"),
        pytest.param([A, B], None, "b", None, (), B, id="what is live is on no record"),
        pytest.param([A, B], C, "c", None, ("b",), A, id="not a held one"),
        pytest.param([B], C, "c", None, ("b",), B, id="a held one if there is no other"),
        pytest.param([A, B_ELSEWHERE], C, "c", None, ("b",), B_ELSEWHERE, id="held by its source"),
        pytest.param([A, B], None, "", A, (), A, id="what was removed"),
        pytest.param([A, B], None, "", B, ("b",), B, id="what was removed although it is held"),
        pytest.param([A], None, "", B, (), A, id="what was removed is gone"),
        pytest.param([A, B_FAILED], C, "c", None, (), A, id="not one whose check failed"),
        pytest.param([B_FAILED], C, "c", None, (), None, id="only one whose check failed"),
        pytest.param([A, B_CHANGED], C, "c", None, (), B_CHANGED, id="one kept for its changes"),
        pytest.param([A, B], A_AGAIN, "a", None, (), B, id="the live content is the oldest"),
        pytest.param([A], A_AGAIN, "a", None, (), None, id="the live content only"),
        pytest.param([A, B], C, "b", None, (), A, id="what the live version was changed into"),
    ],
)
def test_rollback_goes_back_to(
    kept: list[Record],
    current: Record | None,
    live: str,
    removed: Record | None,
    held: tuple[str, ...],
    expected: Record | None,
) -> None:
    assert version_to_go_back_to(kept, current, live, removed, held) == expected
