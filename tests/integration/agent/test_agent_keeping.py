"""Nothing is lost: earlier versions that got changes of their own after they were replaced."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from envsync.agent.places.records import Record
from envsync.agent.trees.snapshot import Snapshot
from envsync.agent.trees.trees import Trees
from envsync.agent.wire.server_operations import HEALTH, AskEnvironments
from envsync.errors import NotFound, StorageFailed
from envsync.push.ends.end import LocalEnd
from tests.support import disk
from tests.support.pushes import Server, die_in, environment, records
from tests.support.trees import file

VERSIONS = [environment({b"bin/tool": file(b"version %d" % n, 0o755)}) for n in range(5)]


@pytest.fixture
def server(tmp_path: Path) -> Server:
    """Two versions published: the second stands, the first is the one generation kept."""
    server = Server(tmp_path)
    server.push(VERSIONS[0])
    server.push(VERSIONS[1])
    return server


def generation(server: Server, number: int) -> tuple[Record, Path]:
    records = server.target().records
    record = next(record for record in records.all() if record.number == number)
    tree = records.tree(record)
    assert tree is not None
    return record, Path(tree.decode())


def test_earlier_version_that_was_written_to_is_kept_for_good(
    server: Server,
) -> None:
    _, tree = generation(server, 1)
    (tree / "bin/late").write_text("a job that still ran in it wrote this\n")
    for version in VERSIONS[2:]:
        server.push(version)
    record, tree = generation(server, 1)
    assert (tree / "bin/late").read_text() == "a job that still ran in it wrote this\n"
    assert record.kept_because == "it was changed after it was replaced"


def test_an_earlier_version_that_nobody_touched_is_built_upon(server: Server) -> None:
    server.push(VERSIONS[2])
    numbers = [record.number for record in server.target().records.all()]
    assert numbers == [2, 3]


def test_last_published_version_stays_beside_one_kept_as_changed(
    server: Server,
) -> None:
    """Else there would be nothing left to go back to that was ever published."""
    with open(server.live + b"/bin/tool", "ab") as tool:
        tool.write(b", changed by hand")
    server.push(VERSIONS[2])
    kept = {record.number: record.kept_because for record in server.target().records.all()}
    assert (kept[1], kept[4]) == ("", "")
    assert "changed by hand" in kept[3]


def test_a_version_that_the_disk_does_not_return_stays_alone(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It kept all later ones, a tree more with each push, and none could be built upon."""
    _, bad = generation(server, 1)
    snapshot = Trees.snapshot

    def fail(trees: Trees, tree: bytes, **options: Any) -> Snapshot:
        if tree == os.fsencode(bad):
            raise StorageFailed("files cannot be read: its disk fails")
        return snapshot(trees, tree, **options)

    monkeypatch.setattr(Trees, "snapshot", fail)
    for version in VERSIONS[2:]:
        server.push(version)
    assert server.tree() == VERSIONS[-1]
    kept = {record.number: record.kept_because for record in server.target().records.all()}
    assert kept == {1: "it could not be read", 4: "", 5: ""}
    assert len(server.earlier()) == 2


def test_rollback_never_goes_back_to_what_an_interrupted_push_left(server: Server) -> None:
    """However often one goes back beside it, and it is still there for the next push."""
    server.push(VERSIONS[2], keep=9)
    with server.staged(VERSIONS[3]) as push:
        push.staging.close()
        half = push.staging.path
    before = [record.number for record in server.target().records.all()]
    for number in (2, 3, 2):
        server.rollback(number)
    assert [record.number for record in server.target().records.all()] == before == [2, 3]
    assert os.path.isdir(half)
    with server.staged(VERSIONS[3]) as push:
        assert push.staging.origin == "resumed"


def test_where_a_record_is_damaged_no_tree_is_removed(server: Server) -> None:
    _, tree = generation(server, 1)
    (server.state / "generations" / "000001.json").write_text("{ torn")
    for version in VERSIONS[2:]:
        server.push(version)
    assert (tree / "bin/tool").read_text() == "version 0"


def test_the_number_of_a_damaged_record_is_not_given_again(server: Server) -> None:
    """Its tree would be without a record, and removed as one that nobody needs."""
    disk.write(server.live + b"/bin/mine", b"a day of work")
    kept = records(server).next_number()
    server.rollback(overwrite=True)
    (server.state / "generations" / f"{kept:06}.json").write_text("{ torn")
    server.push(VERSIONS[3])
    assert any(os.path.exists(tree + b"/bin/mine") for tree in server.earlier())


def test_rollback_never_goes_back_to_what_was_deleted_by_hand(server: Server) -> None:
    shutil.rmtree(server.live)
    asked = AskEnvironments(str(server.prefix), (), {})
    [facts] = LocalEnd("here").ask(HEALTH, asked).environments
    assert (facts.state, facts.reason) == ("missing", "1 earlier version is kept")
    assert server.rollback().number == 1
    assert server.tree() == VERSIONS[0]
    shutil.rmtree(server.live)
    with pytest.raises(NotFound, match=f"there is no earlier version of {server.name}"):
        server.rollback()


@pytest.mark.parametrize("is_hashed_meanwhile", [False, True])
def test_overwritten_version_of_another_source_does_not_count_for_keep(
    is_hashed_meanwhile: bool, server: Server
) -> None:
    server.overwrites_foreign = True
    server.push(VERSIONS[2], keep=1, is_hashed_meanwhile=is_hashed_meanwhile)
    assert [record.number for record in records(server).earlier()] == [1, 2]


@pytest.mark.parametrize("step", ["switch", "switched", "record", "recorded", ""])
def test_overwritten_version_of_another_source_stays_after_a_kill(
    step: str, server: Server
) -> None:
    def push(die: Callable[[], None]) -> None:
        def on_step(name: str) -> None:
            if name == step:
                die()

        server.push(VERSIONS[2], keep=0, on_step=on_step)

    server.overwrites_foreign = True
    assert die_in(push, may_live=not step) is bool(step)
    server.push(VERSIONS[2], keep=0)
    server.overwrites_foreign = False
    for version in VERSIONS[3:]:
        server.push(version, keep=0)
    record, _ = generation(server, 2)
    assert record.kept_because == "overwritten by alice@server1, whose source never had it"
    assert server.rollback(2).number == 2
    assert server.tree() == VERSIONS[1]
