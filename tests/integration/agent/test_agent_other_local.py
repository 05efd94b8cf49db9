"""`local:` is edited: what was published before stays a version as published."""

from __future__ import annotations

import os
import time

import pytest

from envsync.agent.source.source_environment import SourceEnvironment
from envsync.agent.target.catalogue import environments
from envsync.agent.target.gc import sweep
from envsync.agent.target.gc_survey import Rules
from envsync.agent.target.queries import differences, verify
from envsync.agent.wire.target_operations import OpenTarget, Requester
from envsync.errors import PreflightRefused, TargetDrifted
from envsync.push.ends.end import LocalEnd
from envsync.push.ends.target_end import TargetEnd
from tests.integration.agent.versions import ONE, THREE, TWO
from tests.support import disk
from tests.support.pushes import Server, records
from tests.support.trees import file

LESS = ("mine",)
BEFORE = ("local", "mine", "*.cfg")
"""What was local; `Server` looks by `local` alone, which is what is local now."""


@pytest.fixture
def pushed(server: Server) -> Server:
    """Two versions, the first of which has local files of then."""
    server.push(ONE, local=BEFORE)
    os.mkdir(server.live + b"/mine")
    disk.build(server.live + b"/mine", {b"f": file(b"of this server")})
    disk.write(server.live + b"/a.cfg", b"of this server")
    server.push(TWO, local=BEFORE)
    return server


def test_version_with_another_local_pattern_can_be_gone_back_to(pushed: Server) -> None:
    pushed.rollback(overwrite=True)
    tree = pushed.tree()
    assert tree[b"bin/tool"].data == ONE[b"bin/tool"].data
    assert tree[b"mine/f"].data == tree[b"a.cfg"].data == b"of this server"


def test_change_of_a_version_with_another_local_pattern_is_found(pushed: Server) -> None:
    (tree,) = pushed.earlier()
    disk.shift_content(tree + b"/lib/shared")
    with pytest.raises(PreflightRefused, match="was changed since"):
        pushed.rollback(overwrite=True)


def test_version_with_another_local_pattern_is_dropped_by_keep(pushed: Server) -> None:
    pushed.push(THREE, keep=0)
    assert [(r.number, r.kept_because[:11]) for r in records(pushed).all()] == [
        (3, "overwritten"),
        (4, ""),
    ]


def test_version_with_another_local_pattern_is_freed_by_gc(pushed: Server) -> None:
    swept = sweep(pushed.target(), Rules(0, drifted=False, dry_run=False, now_seconds=time.time()))
    assert (swept.generations, swept.stays) == ((1,), ())


def test_local_files_of_an_unlisted_name_are_those_of_its_push(pushed: Server) -> None:
    """As of an environment that was pushed `--as`, or where the inventory is another one."""
    disk.shift_content(pushed.live + b"/a.cfg")
    [listed] = environments(str(pushed.prefix), ("local",), {}, pushed.cache)
    assert not listed.drifted
    end = LocalEnd("here")
    target = TargetEnd(
        end, OpenTarget(str(pushed.prefix), pushed.name, None, Requester("bob@here"))
    )
    target.rollback(None, "bob@here", overwrite=False)
    end.close()
    tree = pushed.tree()
    assert tree[b"bin/tool"].data == ONE[b"bin/tool"].data
    assert tree[b"mine/f"].data == b"of this server"
    assert not records(pushed).all()[-1].kept_because


@pytest.fixture
def added(server: Server) -> Server:
    """A version with a file that has become local since, and was changed by this server then."""
    server.push(ONE, local=LESS)
    server.push({**TWO, b"log": file(b"sent"), b"local": file(b"sent")}, local=LESS)
    disk.shift_content(server.live + b"/local")
    return server


def test_file_that_became_local_is_no_change(added: Server) -> None:
    [listed] = environments(str(added.prefix), ("local",), {}, added.cache)
    assert not listed.drifted
    facts = verify(added.target())
    assert (facts.missing, facts.damaged, facts.unexpected) == ((), (), ())
    found = differences(added.target(), None, 9, {})
    assert (found.added, found.removed, found.changed) == (0, 0, 0)
    state = added.target().inspect(lock=False)
    assert state.record is not None
    assert state.record.revision == state.revision
    assert [record.number for record in state.generations] == [1]


def test_version_with_a_file_that_became_local_is_replaced_as_unchanged_and_can_come_back(
    added: Server,
) -> None:
    of_this_server = added.tree()[b"local"].data
    added.push(THREE)
    assert added.tree()[b"local"].data == of_this_server
    assert [(record.number, record.kept_because) for record in records(added).all()] == [
        (2, ""),
        (3, ""),
    ]
    added.rollback()
    tree = added.tree()
    assert (tree[b"log"].data, tree[b"local"].data) == (b"sent", of_this_server)


def test_version_is_as_published_after_a_pattern_was_added_and_taken_out_again(
    server: Server,
) -> None:
    """Looks with the lock came in between, as those of pushes that were in step or refused."""
    server.push(TWO, local=LESS)
    for local in (("lib",), LESS):
        target = server.target(local)
        state = target.inspect(lock=True)
        target.lock.release()
        assert state.record is not None
        assert state.record.revision == state.revision


def test_version_with_a_file_that_became_local_is_removed_as_unchanged_and_can_come_back(
    added: Server,
) -> None:
    of_this_server = added.tree()[b"local"].data
    added.remove()
    assert not records(added).all()[-1].kept_because
    added.rollback()
    assert added.tree()[b"local"].data == of_this_server


def test_change_beside_a_file_that_became_local_is_found(added: Server) -> None:
    disk.shift_content(added.live + b"/log")
    assert verify(added.target()).damaged == ("log",)
    [listed] = environments(str(added.prefix), ("local",), {}, added.cache)
    assert listed.drifted
    with pytest.raises(TargetDrifted):
        added.rollback()


def test_version_with_a_file_that_became_local_has_its_source_revision_as_a_source(
    added: Server,
) -> None:
    """Else a target that has the same version would take it for a foreign one."""
    record = records(added).all()[-1]
    records(added).store(record._replace(source_revision="a" * len(record.revision)))
    source = SourceEnvironment(str(added.prefix), added.name, ("local",), added.cache, None)
    assert source.inspect().source_revision == "a" * len(record.revision)
