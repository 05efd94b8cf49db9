"""The torture program judges by what its script did: that judgement, on values."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench.torture.judge import Fallen, Judge
from bench.torture.observed import NOTHING, Observed, StandingTree, fingerprint
from bench.torture.script import OPERATIONS, Fault, Round, draw
from bench.torture.tally import Tally, text, total
from envsync.agent.places.records import Record
from envsync.tree.manifest import Totals

LIVE = 1


def record(inode: int) -> Record:
    return Record(inode, "r", "r", inode, "a", "b", 0.0, "mirror", "", Totals(0, 0, 0))


def observed(
    content: str, earlier: dict[int, str] | None = None, published: dict[int, str] | None = None
) -> Observed:
    """`content` at the name, `earlier` versions by inode; all as published, unless told."""
    earlier = earlier or {}
    contents = {LIVE: content, **earlier}
    return Observed(
        live=StandingTree(Path("live"), content, frozenset({100})),
        live_inode=LIVE,
        trees={
            inode: StandingTree(Path(str(inode)), what, frozenset({100 * inode}))
            for inode, what in earlier.items()
        },
        records={inode: record(inode) for inode in contents},
        published={**contents, **(published or {})},
        switching=False,
    )


def a_round(operation: str, *, retry_held: bool = False) -> Round:
    return Round(1, 1, False, "", operation, "stream", retry_held, None, False)


@pytest.fixture
def judge() -> Judge:
    """Its source has had v1 and is at v2."""
    made = Judge()
    made.source_is("v1")
    made.source_is("v2")
    return made


def test_a_round_is_drawn_from_its_seed_and_number_alone() -> None:
    assert [draw(7, n) for n in range(50)] == [draw(7, n) for n in range(50)]
    assert {draw(7, n).operation for n in range(300)} == set(OPERATIONS)
    assert str(draw(7, 3)).startswith("7:3: ")


@pytest.mark.parametrize(
    ("operation", "before", "exits"),
    [
        ("push", observed("v1"), {0}),
        ("push", observed("v2", published={LIVE: "other"}), {0}),
        ("push", observed("v1+", published={LIVE: "v1"}), {11}),
        ("push", observed("foreign"), {12}),
        ("overwrite", observed("v1+", published={LIVE: "v1"}), {0}),
        ("rollback", observed("v1+", published={LIVE: "v1"}), {11, 21}),
        ("verify", observed("v1"), {0}),
        ("verify", observed("v1+", published={LIVE: "v1"}), {18}),
        ("gc", observed("v1+", published={LIVE: "v1"}), {0}),
    ],
)
def test_how_an_operation_may_end(
    judge: Judge, operation: str, before: Observed, exits: set[int]
) -> None:
    assert judge.acceptable_exits(a_round(operation), before) == exits


def test_rolled_back_version_may_be_held(judge: Judge) -> None:
    before = observed("v2", {2: "v1"})
    judge.after_operation(a_round("rollback"), before, observed("v1", {2: "v2"}))
    assert judge.acceptable_exits(a_round("push"), observed("v1")) == {0, 13}
    retrying = a_round("push", retry_held=True)
    assert judge.acceptable_exits(retrying, observed("v1")) == {0}


def test_change_between_the_look_and_the_switch_has_to_be_refused(judge: Judge) -> None:
    meddle = Fault("meddle", "switch", 0.5)
    assert replace(a_round("push"), fault=meddle).has_to_be_refused
    assert not replace(a_round("push"), fault=replace(meddle, moment="")).has_to_be_refused
    assert not replace(a_round("push"), fault=replace(meddle, victim="agent")).has_to_be_refused
    late = replace(meddle, moment="build.rollback")
    assert not replace(a_round("rollback"), fault=late).has_to_be_refused
    judge.require_refusal(11)
    with pytest.raises(Fallen, match="overwritten"):
        judge.require_refusal(0)


def test_a_whole_version_passes(judge: Judge) -> None:
    judge.check(observed("v2", {2: "v1"}), {"v1", "v2"})


@pytest.mark.parametrize(
    ("kind", "after"),
    [
        ("unknown version", observed("half")),
        ("damaged generation", observed("v2", {2: "half"}, {2: "v1"})),
        ("damaged generation", observed("v2", {}, {2: "v1"})),
        ("shared inode", observed("v2", {2: "v1"})),
        ("missing", observed("v2")),
    ],
)
def test_judge_names_the_kind_of_a_failure(judge: Judge, kind: str, after: Observed) -> None:
    match kind:
        case "missing":
            after = Observed(None, 0, {}, {}, {}, switching=False)
        case "shared inode":
            shared = StandingTree(Path("2"), "v1", frozenset({100}))
            after = Observed(after.live, LIVE, {2: shared}, {}, {}, switching=False)
        case _ if not after.trees and kind == "damaged generation":
            after = Observed(after.live, LIVE, {}, {2: record(2)}, {2: "v1"}, switching=False)
    with pytest.raises(Fallen) as fallen:
        judge.check(after, {"v1", "v2"})
    assert fallen.value.kind == kind


def test_version_made_by_hand_is_precious_until_one_insists(judge: Judge) -> None:
    judge.drifted(observed("v1"), observed("v1+"))
    judge.check(observed("v2", {2: "v1+"}), {"v2"})
    with pytest.raises(Fallen, match="loss"):
        judge.check(observed("v2"), {"v2"})
    judge.after_operation(a_round("gc-drifted"), observed("v2", {2: "v1+"}), observed("v2"))
    judge.check(observed("v2"), {"v2"})


def test_a_second_change_by_hand_takes_the_place_of_the_first(judge: Judge) -> None:
    judge.drifted(observed("v1"), observed("v1+"))
    judge.drifted(observed("v1+"), observed("v1++"))
    judge.check(observed("v2", {2: "v1++"}), {"v2"})


def test_contents_are_told_apart_by_path_kind_and_bytes() -> None:
    entries = [(b"a", "file", b"x"), (b"b", "symlink", b"a")]
    assert fingerprint(entries) == fingerprint(reversed(entries))
    for other in ([(b"a", "file", b"y")], [(b"a", "symlink", b"x")], [(b"c", "file", b"x")]):
        assert fingerprint([*other, entries[1]]) != fingerprint(entries)
    assert NOTHING not in {fingerprint(entries), fingerprint([])}


def test_lanes_are_added_up() -> None:
    one, other = Tally(rounds=2, samples=5, seconds=3.0), Tally(rounds=1, seconds=4.0)
    one.kills["agent"] += 2
    other.failures.append("loss: x (round 1:1: push)")
    found = total([one.to_json(), other.to_json()])
    assert (found["rounds"], found["samples"], found["seconds"]) == (3, 5, 4.0)
    assert found["kills"] == {"agent": 2}
    assert text(found).endswith("failures: 1\n  loss: x (round 1:1: push)")
