"""Names that are links: ours where directories cannot be swapped, and the user's own."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from envsync.agent.places import busy_findings
from envsync.agent.places.directory_identity import directory_identity
from envsync.agent.places.layout import environment_layout
from envsync.agent.source.outside_paths import outside_paths
from envsync.agent.source.source_environment import SourceEnvironment
from envsync.agent.target.catalogue import environments
from envsync.agent.target.gc import sweep
from envsync.agent.target.gc_survey import Rules
from envsync.agent.target.queries import verify
from envsync.errors import CheckFailed, PreflightRefused, TargetDrifted, TargetIsSource
from tests.integration.agent.versions import (
    ONE,
    STEPS,
    THREE,
    TWO,
    kill_at,
    revision,
    shift,
)
from tests.support import disk
from tests.support.interference import refuse_exchange
from tests.support.pushes import NAME, Server, die_in, require_sound
from tests.support.trees import manifest_of

STEPS_TO_A_LINK = [*STEPS[: STEPS.index("switched")], "converting", *STEPS[3:]]


@pytest.fixture
def moved(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """ONE stands there as a directory, on a filesystem that cannot swap it."""
    server.push(ONE)
    refuse_exchange(monkeypatch)
    return server


def is_linked(server: Server) -> bool:
    """Whether the name is a link of ours, to a directory, that says nothing of the prefix."""
    if not os.path.islink(server.live):
        return False
    above, token = os.path.split(os.readlink(server.live))
    assert above == os.fsencode(f".envsync/{server.name}/trees")
    assert os.path.isdir(server.state / "trees" / os.fsdecode(token))
    return True


def conda_sees(server: Server) -> list[str]:
    """The environments by conda's rule: directories of `envs` with a history."""
    envs = server.prefix / "envs"
    return [p.name for p in envs.iterdir() if (p / "conda-meta" / "history").is_file()]


# --- a directory becomes a link ---------------------------------------------------------


def test_a_directory_becomes_a_link_and_stays_one(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.push(ONE)
    with monkeypatch.context() as only_now:
        refuse_exchange(only_now)
        with server.staged(TWO) as push:
            [finding] = push.stage(manifest_of(TWO)).findings
            assert "becomes a link" in finding.message
            assert not finding.blocking
        server.push(TWO)
        assert is_linked(server)
        with server.staged(THREE) as push:
            assert push.stage(manifest_of(THREE)).findings == ()
    server.push(THREE)
    assert is_linked(server), "also where directories can be swapped again"
    assert server.manifest() == manifest_of(THREE)
    assert conda_sees(server) == [NAME]
    require_sound(server)


def test_everything_works_with_a_link(moved: Server) -> None:
    moved.push(TWO)
    moved.push(THREE)
    target = moved.target()
    state = target.inspect(lock=False)
    assert (state.exists, state.revision) == (True, revision(THREE))
    assert state.record is not None
    assert state.record.revision == revision(THREE)
    assert [record.revision for record in state.generations] == [revision(TWO)]
    [listed] = environments(str(moved.prefix), ("local",), {}, moved.cache)
    assert (listed.name, listed.revision, listed.problem) == (NAME, revision(THREE), "")
    assert (listed.drifted, listed.generations) == (False, 1)
    verified = verify(moved.target())
    assert (verified.damaged, verified.missing, verified.unexpected) == ((), (), ())
    disk.shift_content(moved.live + b"/conda-meta/history")
    assert verify(moved.target()).damaged == ("conda-meta/history",)
    moved.rollback(overwrite=True)
    assert moved.manifest() == manifest_of(TWO)
    require_sound(moved)


def test_gc_spares_what_stands_there_and_counts_from_the_switch(moved: Server) -> None:
    """On a network filesystem a version stays for a week after it was replaced."""
    moved.push(TWO)
    two = moved.target().layout.standing()
    (moved.state / "now").touch()
    now_ns = (moved.state / "now").stat().st_mtime_ns
    moved.push(THREE)
    assert os.lstat(two).st_ctime_ns >= now_ns
    swept = sweep(moved.target(), Rules(0, False, False, time.time()))
    assert len(swept.generations) == 1
    assert moved.earlier() == []
    assert moved.manifest() == manifest_of(THREE)
    require_sound(moved)


def test_back_to_a_directory_by_hand(moved: Server) -> None:
    moved.push(TWO)
    tree = moved.target().layout.standing()
    os.unlink(moved.live)
    os.rename(tree, moved.live)
    state = moved.target().inspect(lock=False)
    assert state.record is not None
    assert state.record.revision == revision(TWO) == state.revision
    moved.push(THREE)
    require_sound(moved)


@pytest.mark.parametrize("step", STEPS_TO_A_LINK)
def test_killed_while_a_directory_becomes_a_link(step: str, moved: Server) -> None:
    die_in(lambda die: moved.push(TWO, on_step=kill_at(step, die)))
    assert os.path.lexists(moved.live) is (step != "converting"), "the one window there is"
    moved.target().inspect(lock=False)  # as every question does
    switched = STEPS_TO_A_LINK.index(step) >= STEPS_TO_A_LINK.index("switched")
    assert moved.revision() == revision(TWO if switched else ONE)
    assert is_linked(moved) is switched
    require_sound(moved)
    moved.push(THREE)
    assert moved.manifest() == manifest_of(THREE)
    assert is_linked(moved)
    require_sound(moved)


@pytest.mark.parametrize("step", STEPS_TO_A_LINK)
@pytest.mark.parametrize("way", ["overwrite", "rollback"])
def test_nothing_is_lost_while_a_directory_becomes_a_link(
    way: str, step: str, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.push(ONE)
    if way == "rollback":
        server.push(TWO)
    shift(server)
    changed = server.revision()
    refuse_exchange(monkeypatch)

    def act(die: Callable[[], None]) -> None:
        if way == "rollback":
            server.rollback(overwrite=True, on_step=kill_at(step, die))
        else:
            server.push(TWO, on_step=kill_at(step, die))

    die_in(act)
    server.target().inspect(lock=False)
    assert server.revision() in {changed, revision(ONE), revision(TWO)}
    server.push(THREE)
    assert changed in [record.revision for record in server.target().records.all()]
    require_sound(server)


def test_a_check_that_fails_gives_the_version_before_the_name_back(moved: Server) -> None:
    with pytest.raises(CheckFailed, match="is live again"):
        moved.push(TWO, check="false")
    assert moved.manifest() == manifest_of(ONE)
    require_sound(moved)


def test_a_check_that_fails_on_the_first_push_leaves_no_link(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_exchange(monkeypatch)
    with pytest.raises(CheckFailed, match="nothing was published"):
        server.push(ONE, check="test -L $CONDA_PREFIX && false")
    assert not os.path.lexists(server.live)


def test_change_while_the_name_becomes_a_link_undoes_the_switch(moved: Server) -> None:
    with pytest.raises(TargetDrifted, match="undone"):
        moved.push(TWO, on_step=lambda step: shift(moved) if step == "switch" else None)
    assert moved.tree()[b"bin/tool"].data == b"one"
    moved.push(THREE)
    require_sound(moved)


def test_failure_while_the_name_becomes_a_link_gives_it_back(moved: Server) -> None:
    def fail(step: str) -> None:
        if step == "converting":
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    with pytest.raises(OSError, match="error"):
        moved.push(TWO, on_step=fail)
    assert moved.revision() == revision(ONE)
    assert not moved.target().layout.interrupted()
    require_sound(moved)


def test_a_directory_that_cannot_be_moved_stays_there(
    moved: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = os.rename

    def rename(source: bytes, target: bytes) -> None:
        if source == moved.live:
            raise OSError(18, "Invalid cross-device link")
        plain(source, target)

    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(PreflightRefused, match="cannot be replaced") as refused:
        moved.push(TWO)
    assert "mv " in refused.value.hint
    assert moved.manifest() == manifest_of(ONE)
    require_sound(moved)


@pytest.mark.parametrize("step", ["switched", "check"])
def test_tree_that_the_name_leads_to_is_never_built_upon(step: str, moved: Server) -> None:
    """Although no record says that it was published, and a staging file still names it."""
    moved.push(TWO)
    die_in(lambda die: moved.push(THREE, on_step=kill_at(step, die)))
    (moved.state / "intent.json").write_text("{ torn")
    assert moved.revision() == revision(THREE)
    seen: list[str] = []
    moved.push(ONE, before_publish=lambda: seen.append(moved.revision()))
    assert seen == [revision(THREE)]
    kept = [r.revision for r in moved.target().records.all() if r.kept_because]
    assert kept == [revision(THREE)]
    require_sound(moved)


# --- links of the user's own ------------------------------------------------------------


@pytest.fixture
def elsewhere(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ONE on a bigger disk, with a link to it at the name; pushed there."""
    bigger = tmp_path_factory.mktemp("bigger") / "of-alice"
    bigger.mkdir()
    os.symlink(bigger, server.live)
    server.push(ONE)
    return bigger


def require_untouched_link(server: Server, elsewhere: Path) -> None:
    assert os.readlink(server.live) == os.fsencode(elsewhere)
    assert sorted(os.listdir(server.prefix / "envs")) == [NAME]


def test_an_environment_on_another_disk_stays_there(server: Server, elsewhere: Path) -> None:
    server.push(TWO, check=f'[ "$(basename $CONDA_PREFIX)" = {NAME} ]')
    assert server.manifest() == manifest_of(TWO)
    assert disk.read(os.fsencode(elsewhere)) == server.tree()
    assert sorted(os.listdir(elsewhere.parent)) == [".envsync", "of-alice"]
    server.rollback()
    assert server.manifest() == manifest_of(ONE)
    require_untouched_link(server, elsewhere)


@pytest.mark.parametrize("step", STEPS_TO_A_LINK)
def test_kill_while_a_name_on_another_disk_becomes_a_link_is_recovered(
    step: str, server: Server, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_exchange(monkeypatch)
    die_in(lambda die: server.push(TWO, on_step=kill_at(step, die)))
    server.target().inspect(lock=False)
    assert server.revision() in {revision(ONE), revision(TWO)}
    server.push(THREE)
    assert server.manifest() == manifest_of(THREE)
    assert os.path.islink(elsewhere)
    require_untouched_link(server, elsewhere)


def test_a_source_that_is_a_link(server: Server, elsewhere: Path) -> None:
    source = SourceEnvironment(str(server.prefix), NAME, (), None, str(server.scratch))
    assert source.inspect().revision == revision(ONE)
    assert b"".join(source.contents([(b"bin/tool", 3)])).endswith(b"one")
    assert outside_paths(source.version) == ()


def test_an_absolute_link_within_a_linked_environment_leads_not_outside(
    server: Server, elsewhere: Path
) -> None:
    os.symlink(server.live + b"/bin/tool", elsewhere / "inside")
    os.symlink(os.fsencode(elsewhere) + b"/bin/tool", elsewhere / "outside")
    source = SourceEnvironment(str(server.prefix), NAME, (), None, str(server.scratch))
    source.inspect()
    [outside] = outside_paths(source.version)
    assert outside.message.startswith("outside (symlink)")


def test_an_installer_is_seen_by_the_name_that_it_was_given(
    server: Server, elsewhere: Path
) -> None:
    layout = environment_layout(str(server.prefix), NAME)
    for path in (server.live, os.fsencode(elsewhere)):
        code = "import sys; print(flush=True); sys.stdin.read()"
        argv = ["conda", "-c", code, "install", "-p", os.fsdecode(path), "x"]
        with subprocess.Popen(
            argv, executable=sys.executable, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as installer:
            assert installer.stdout is not None
            installer.stdout.readline()
            [finding] = busy_findings.installer_findings(layout)
            installer.communicate()
        assert finding.blocking
        assert str(installer.pid) in finding.message
    assert busy_findings.installer_findings(layout) == ()


def _dangling(server: Server) -> None:
    os.symlink("/nowhere/at/all", server.live)


def _loop(server: Server) -> None:
    os.symlink(NAME, server.live)


def _to_a_file(server: Server) -> None:
    os.symlink("/etc/passwd", server.live)


def _to_another(server: Server) -> None:
    (server.prefix / "envs/other/conda-meta").mkdir(parents=True)
    os.symlink("other", server.live)


def _to_base(server: Server) -> None:
    os.symlink("..", server.live)


def _to_the_root(server: Server) -> None:
    os.symlink("/", server.live)


def _to_a_kept_version(server: Server) -> None:
    tree = server.prefix / "envs/.envsync/other/trees/0123"
    tree.mkdir(parents=True)
    os.symlink(tree, server.live)


def _to_a_version_that_is_gone(server: Server) -> None:
    os.symlink(f".envsync/{server.name}/trees/0123", server.live)


def _to_somebody_elses(server: Server) -> None:
    place = server.prefix.parent / "of-bob"
    place.mkdir()
    os.chown(place, 4321, -1)
    os.symlink(place, server.live)


@pytest.mark.parametrize(
    ("lead", "said"),
    [
        (_dangling, "is a link to no directory"),
        (_loop, "is a link to no directory"),
        (_to_a_file, "is a link to no directory"),
        (_to_a_version_that_is_gone, "is a link to no directory"),
        (_to_another, "is a link to another environment, other"),
        (_to_base, "is a link to conda itself"),
        (_to_the_root, "is a link to conda itself"),
        (_to_a_kept_version, "is a link to a version that envsync keeps"),
    ],
)
def test_a_link_that_nothing_is_pushed_through(
    lead: Callable[[Server], None], said: str, server: Server
) -> None:
    lead(server)
    before = disk.read(os.fsencode(server.prefix))
    with pytest.raises(PreflightRefused, match=said) as refused:
        server.push(ONE)
    assert os.fsdecode(server.live) in refused.value.message
    assert f"rm {os.fsdecode(server.live)}" in refused.value.hint
    with pytest.raises(PreflightRefused, match=said):
        server.rollback()
    assert disk.read(os.fsencode(server.prefix)) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_link_to_somebody_elses_is_refused_by_name(server: Server) -> None:
    place = server.prefix.parent / "of-bob"
    place.mkdir()
    os.chown(place, 4321, -1)
    os.symlink(place, server.live)
    [finding] = server.target().inspect(lock=True).findings
    assert finding.blocking
    assert f"{place} belongs to 4321, not to " in finding.message
    assert not (place.parent / ".envsync").exists()


# --- the source's own place -------------------------------------------------------------


@pytest.mark.parametrize("lock", [False, True])
def test_the_place_of_the_source_is_refused_and_nothing_written(lock: bool, server: Server) -> None:
    source = SourceEnvironment(str(server.prefix), NAME, (), None, None)
    assert source.identity() is None
    os.mkdir(server.live)
    disk.build(server.live, ONE)
    alias = server.prefix.parent / "alias"
    alias.symlink_to(server.prefix)
    before = disk.read(os.fsencode(server.prefix))
    for prefix in (server.prefix, alias):
        target = server.target_at(prefix)
        with pytest.raises(TargetIsSource):
            target.inspect(lock=lock, source=source.identity())
    assert disk.read(os.fsencode(server.prefix)) == before
    other = directory_identity(os.fsencode(server.scratch))
    assert server.target().inspect(lock=lock, source=other).exists
