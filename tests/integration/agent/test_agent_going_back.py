"""Rollbacks: an earlier version at the name again, exactly."""

from __future__ import annotations

import contextlib
import grp
import os
import shutil
import subprocess

import pytest

from envsync.agent.places.local_environment import LocalEnvironment
from envsync.agent.target import switches
from envsync.errors import CheckFailed, NotFound, PreflightRefused, SourceRefused, TargetDrifted
from envsync.tree.sharing import READ, WRITE, Share
from tests.integration.agent.versions import (
    ONE,
    THREE,
    TWO,
    revision,
    shift,
)
from tests.support import disk
from tests.support.pushes import Server, records, require_sound
from tests.support.trees import Tree

pytestmark = pytest.mark.usefixtures("each_way")


def test_rollback_gives_the_old_bytes_back_exactly(server: Server) -> None:
    server.push(ONE)
    before = server.manifest()
    server.push(TWO)
    server.rollback()
    assert server.manifest() == before
    assert revision(TWO) in records(server).held.reasons()
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


def test_rollback_after_a_push_skips_versions_that_were_rolled_back(server: Server) -> None:
    for version in (ONE, TWO):
        server.push(version, keep=3)
    server.rollback()
    server.push(THREE, keep=3)
    assert server.rollback().revision == revision(ONE)
    assert server.rollback(2).revision == revision(TWO), "but by its number"
    require_sound(server)


def test_a_version_that_may_not_be_read_is_not_called_changed(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is from before the environment was shared, and bob's rollback cannot read it."""
    for version in (ONE, TWO):
        server.push(version)
    closed = SourceRefused("some files are not readable", hint="alice has to open them")

    def refuse(*_: object) -> bool:
        raise closed

    with monkeypatch.context() as patched:
        patched.setattr(LocalEnvironment, "is_as_published", refuse)
        with pytest.raises(PreflightRefused, match="some files are not readable") as told:
            server.rollback()
    assert told.value.hint == "alice has to open them"
    assert server.rollback().revision == revision(ONE)


def test_the_version_that_a_push_replaces_stays_also_after_a_rollback(server: Server) -> None:
    """It is older then than what was rolled back, which a job may still write into."""
    server.push(ONE)
    server.push(TWO)
    server.rollback()
    (rolled_back,) = server.earlier()
    disk.write(rolled_back + b"/lib/late", b"by a job")
    server.push(THREE)
    assert server.rollback().revision == server.revision() == revision(ONE)


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_rollback_after_one_that_was_taken_back_gives_another_version(
    keep: int, server: Server
) -> None:
    """What was rolled back stands there once more, and in its earlier tree, perhaps."""
    for version in (ONE, TWO, THREE):
        server.push(version, keep=keep)
    server.rollback()
    server.push(THREE, keep=keep, retry_held=True)
    back = [server.rollback().revision for _ in range(min(keep, 2))]
    assert back == [revision(TWO), revision(ONE)][:keep]
    require_sound(server)


@pytest.mark.parametrize("keep", [1, 2])
def test_rollback_after_another_share_gives_another_version(keep: int, server: Server) -> None:
    """The same version with other modes takes no earlier one's place."""
    group = grp.getgrgid(os.getegid()).gr_name
    for version in (ONE, TWO):
        server.push(version, keep=keep)
    for mode in (READ, WRITE):
        server.share = Share(group, mode)
        server.push(TWO, keep=keep)
    assert server.rollback().revision == server.revision() == revision(ONE)
    require_sound(server)


def test_a_job_may_go_on_in_a_version_that_is_shared_from_now_on(server: Server) -> None:
    server.push(ONE)
    with open(server.live + b"/lib/shared", "ab") as log:
        job = subprocess.Popen(["sleep", "60"], stdout=log)
        try:
            server.share = Share(grp.getgrgid(os.getegid()).gr_name, READ)
            server.push(ONE, keep=0)
            assert os.fstat(log.fileno()).st_nlink == 1, "it does not write into nothing"
        finally:
            job.kill()
            job.wait()


def test_rollback_refuses_where_only_the_live_content_is_kept(server: Server) -> None:
    server.push(ONE, keep=2)
    server.push(ONE, keep=2)
    with pytest.raises(NotFound) as told:
        server.rollback()
    assert told.value.details == ("kept: number 1",)


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


def test_rollback_to_a_damaged_generation_names_the_others_that_are_kept(server: Server) -> None:
    for version in (ONE, TWO, THREE):
        server.push(version, keep=2)
    newest = records(server).tree(records(server).all()[1])
    assert newest is not None
    disk.shift_content(newest + b"/lib/shared")
    with pytest.raises(PreflightRefused, match="generation 2 was changed") as refused:
        server.rollback()
    assert refused.value.details == ("kept: number 1",)
    assert "`--to NUMBER`" in refused.value.hint
    assert server.rollback(1).revision == revision(ONE)


def test_rollback_to_the_live_version_says_that_it_is_live(server: Server) -> None:
    server.push(ONE)
    server.push(TWO)
    with pytest.raises(NotFound, match=r"number 2 of .+ is live already"):
        server.rollback(2)


def fail_and_change(server: Server, nodes: Tree) -> None:
    """A push whose check fails, after it has changed what it checks: that is kept."""
    check = f"echo broken > {os.fsdecode(server.live)}/bin/tool; false"
    with pytest.raises(CheckFailed) as failed:
        server.push(nodes, keep=3, check=check)
    assert "kept as generation" in failed.value.details[-1]


def test_rollback_to_a_version_that_failed_its_check_needs_its_number(server: Server) -> None:
    """Also where the same revision passed it later."""
    server.push(ONE)
    fail_and_change(server, TWO)
    server.push(TWO, keep=3, retry_held=True)
    assert server.rollback().revision == server.revision() == revision(ONE)
    server.push(TWO, keep=3, retry_held=True)
    server.rollback(2)
    assert server.tree()[b"bin/tool"].data == b"broken\n"
    # It was gone back from TWO, which is not what stands there now.
    assert revision(TWO) in records(server).held.reasons()
    require_sound(server)


def test_going_back_behind_what_was_removed_holds_that(server: Server) -> None:
    """Else the daemon would push it over the version that a person chose."""
    server.push(ONE)
    server.push(TWO)
    target = server.target()
    switches.remove(target, "bob@here", overwrite=False)
    target.lock.release()
    server.rollback(1)
    assert records(server).held.reasons() == {revision(TWO): "rolled back by bob@here"}


def test_a_first_version_that_failed_its_check_is_none_to_go_back_to(server: Server) -> None:
    fail_and_change(server, ONE)
    with pytest.raises(NotFound) as told:
        server.rollback()
    assert told.value.details == ("kept: number 1",)
    assert not os.path.exists(server.live)
    server.rollback(1)
    assert server.tree()[b"bin/tool"].data == b"broken\n"
    assert revision(ONE) in records(server).held.reasons()


def test_rollback_brings_back_what_was_removed(server: Server) -> None:
    """And not what is newer: it was rolled back before."""
    server.push(ONE, keep=2)
    server.push(TWO, keep=2)
    server.rollback()
    server.remove()
    assert server.rollback().revision == revision(ONE)


def test_rollback_brings_back_what_was_changed_and_removed(server: Server) -> None:
    server.push(ONE)
    server.push(TWO)
    shift(server)
    changed = server.revision()
    with pytest.raises(TargetDrifted) as refused:
        server.remove()
    assert "--overwrite removes it" in refused.value.hint
    server.remove(overwrite=True)
    assert server.rollback().revision == server.revision() == changed


def test_rollback_of_a_deleted_environment_skips_rolled_back_versions(
    server: Server,
) -> None:
    for version in (ONE, TWO, THREE):
        server.push(version, keep=3)
    server.rollback()
    shutil.rmtree(server.target().layout.standing())
    with contextlib.suppress(FileNotFoundError):
        os.unlink(server.live)
    assert server.rollback().revision == revision(ONE)
