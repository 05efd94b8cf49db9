"""Where a name is a link: ours, on a filesystem that cannot swap directories, or the user's own.

The filesystem is bindfs, which refuses RENAME_EXCHANGE as NFS does.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.conda import ENVIRONMENT
from tests.integration.push.command import Envsync, finish
from tests.integration.push.odd_files import add_odd_files
from tests.integration.push.places import environment, state, trees
from tests.integration.push.planted import Stop, plant
from tests.integration.push.real_environment import conda_records, runs
from tests.integration.push.stamped import Reader, Stamped, version_at, wait_quiet
from tests.integration.push.tree_listing import assert_same, contents, tree
from tests.lab.lab import Lab, LabHost

SERVER = "server2"
LOST, PREFLIGHT, DRIFT, HELD = 6, 8, 11, 13
_CONDA_SEES = """\
import os, sys
for entry in os.scandir(sys.argv[1]):
    if entry.is_dir() and os.path.isfile(os.path.join(entry.path, "conda-meta", "history")):
        print(entry.name)
"""


def conda_sees(host: LabHost) -> list[str]:
    """The environments by the rule that conda lists them by."""
    return host.python(_CONDA_SEES, f"{host.prefix}/envs").split()


def is_linked(host: LabHost) -> bool:
    top = environment(host)
    return top.is_symlink() and str(top.readlink()).startswith(f".envsync/{ENVIRONMENT}/trees/")


# --- killed, in front of a reader -------------------------------------------------------


class Scene:
    """A planted command, its source, and a target whose directories cannot be swapped."""

    def __init__(self, lab: Lab) -> None:
        self.target = lab[SERVER]
        self.source = Stamped.in_lab(lab)
        self.command = plant(lab.controller)
        self.command.push(SERVER)
        self.target.refuse_exchange()

    def resumes(self) -> None:
        wait_quiet(self.target)
        assert self.command.push(SERVER).server["outcome"] in ("pushed", "in-step")
        assert version_at(self.target) == self.source.version
        assert is_linked(self.target)
        assert not (state(self.target) / "intent.json").exists()
        assert len(trees(self.target)) <= 2


@pytest.fixture
def directory(fresh_lab: Lab, fuse: None) -> Scene:
    """A directory stands there yet."""
    return Scene(fresh_lab)


@pytest.fixture
def linked(directory: Scene) -> Scene:
    """Its name is a link already."""
    directory.source.change()
    directory.command.push(SERVER)
    assert is_linked(directory.target)
    return directory


@pytest.mark.parametrize("whom", ["agent", "command"])
def test_push_killed_while_the_name_is_missing_is_recovered(directory: Scene, whom: str) -> None:
    scene, before = directory, version_at(directory.target)
    new = scene.source.change()
    stop = Stop(scene.target, "converting")
    process = scene.command.start("push", ENVIRONMENT, SERVER)
    stop.wait()
    assert not environment(scene.target).is_symlink()
    assert version_at(scene.target) is None
    if whom == "agent":
        stop.kill()
        ran = finish(process)
        assert ran.exit_code == LOST, ran.document
        assert version_at(scene.target) == before
    else:
        process.kill()
        process.communicate()
        stop.go_on()
        wait_quiet(scene.target)
        assert version_at(scene.target) == new
        assert is_linked(scene.target)


@pytest.mark.parametrize("moment", ["intent", "switch", "switched", "record"])
def test_the_agent_is_killed(linked: Scene, moment: str) -> None:
    scene, before = linked, version_at(linked.target)
    new = scene.source.change()
    stop = Stop(scene.target, moment)
    is_switched = moment in ("switched", "record")
    with Reader(scene.target):
        process = scene.command.start("push", ENVIRONMENT, SERVER)
        stop.kill()
        ran = finish(process)
        assert ran.exit_code == (0 if is_switched else LOST), ran.document
        assert version_at(scene.target) == (new if is_switched else before)
        scene.resumes()


@pytest.mark.parametrize("transport", ["rsync", "scp"])
def test_the_command_is_killed(linked: Scene, transport: str) -> None:
    scene, before = linked, version_at(linked.target)
    scene.source.change()
    stop = Stop(scene.target, "build.complete")
    process = scene.command.start("push", ENVIRONMENT, SERVER, "--transport", transport)
    stop.wait()
    process.kill()
    process.communicate()
    stop.go_on()
    wait_quiet(scene.target)
    assert version_at(scene.target) == before
    scene.resumes()


# --- a real environment -----------------------------------------------------------------


def test_a_real_environment_behind_a_link(conda_lab: Lab, envsync: Envsync, fuse: None) -> None:
    controller, target = conda_lab.controller, conda_lab[SERVER]
    envsync = plant(controller)
    add_odd_files(environment(controller), f"{controller.prefix}/envs/myenv")
    # bindfs puts its own directory before every path, and this one is then too long.
    [deepest] = (environment(controller) / "share/odd").glob("p" * 200)
    shutil.rmtree(deepest)
    top = f"{target.prefix}/envs/{ENVIRONMENT}"
    envsync.push(SERVER)
    target.refuse_exchange()

    controller.install_wheel("tiny-wheel", "1.0")
    first = envsync.push(SERVER).server
    assert any("becomes a link" in warning for warning in first["warnings"])
    assert is_linked(target)
    runs(target)
    assert conda_records(target) == conda_records(controller)
    assert_same(tree(environment(controller)), tree(environment(target)))
    assert conda_sees(target) == [ENVIRONMENT]
    assert target.run([f"{top}/bin/python", "-c", "import sys; print(sys.prefix)"]).stdout == (
        f"{top}\n"
    )
    assert envsync.push(SERVER).server["outcome"] == "in-step"

    controller.change_package("lab-variant ==2.0")
    second = envsync.push(SERVER, "--transport", "rsync").server
    assert second["plan"]["origin"] == "spare"
    assert 0 < second["plan"]["fetch_files"] < 25
    assert not any("becomes a link" in warning for warning in second["warnings"])
    runs(target, variant="2.0")
    assert_same(tree(environment(controller)), tree(environment(target)))
    assert conda_sees(target) == [ENVIRONMENT]

    verified = envsync.ok("verify", ENVIRONMENT, SERVER).server["verified"]
    assert (verified["damaged"], verified["missing"], verified["unexpected"]) == ([], [], [])
    [listed] = envsync.ok("list", SERVER).servers
    [row] = listed["environments"]
    assert (row["name"], row["revision"], row["drifted"]) == (
        ENVIRONMENT,
        second["revision"],
        False,
    )
    history = environment(target) / "conda-meta/history"
    history.write_text(history.read_text() + "# by hand\n")
    envsync.push(SERVER, expect=DRIFT)
    back = envsync.ok("rollback", ENVIRONMENT, SERVER, "--overwrite").result["record"]
    assert back["revision"] == first["revision"]
    runs(target)
    envsync.push(SERVER, expect=HELD)


def test_other_user_reads_a_linked_environment_and_nothing_beside_it(
    source: Stamped, fresh_lab: Lab, fuse: None
) -> None:
    target, command = fresh_lab[SERVER], plant(fresh_lab.controller)
    target.refuse_exchange()
    command.push(SERVER)
    source.change()
    command.push(SERVER)
    assert is_linked(target)
    envs = f"{target.prefix}/envs"
    stranger = ["setpriv", "--reuid=4321", "--regid=4321", "--clear-groups"]
    read = target.run([*stranger, "head", "-c16", f"{envs}/{ENVIRONMENT}/stamps/007"]).stdout
    assert read == f"version-{source.version:08}"
    for directory in (".envsync", f".envsync/{ENVIRONMENT}", f".envsync/{ENVIRONMENT}/trees"):
        assert target.run([*stranger, "ls", f"{envs}/{directory}"], check=False).returncode != 0


# --- places that are not what they seem -------------------------------------------------


def link_to_share(host: LabHost, directory: Path) -> None:
    """The prefix is a link to the same path in storage that is mounted elsewhere."""
    host.path("/run/lab/share").mkdir()
    host.mount_over(str(directory), "/run/lab/share")
    prefix = host.path(host.prefix)
    prefix.rmdir()
    prefix.symlink_to(f"/run/lab/share/{Path(*Path(host.prefix).parts[2:])}")


@pytest.mark.parametrize("seen_by", ["its name", "a link", "another filesystem"])
def test_the_source_itself_through_a_shared_mount(
    fresh_lab: Lab, tmp_path: Path, request: pytest.FixtureRequest, seen_by: str
) -> None:
    controller, target = fresh_lab.controller, fresh_lab[SERVER]
    controller.use_directory(tmp_path)
    if seen_by == "a link":
        link_to_share(target, tmp_path)
    else:
        target.use_directory(tmp_path)
    controller.path(f"{controller.prefix}/envs").mkdir()
    controller.path(f"{controller.prefix}/conda-meta").mkdir()
    Stamped(controller)
    if seen_by == "another filesystem":
        request.getfixturevalue("fuse")
        target.refuse_exchange()
    envsync = Envsync(controller)
    before = tree(tmp_path)
    for options in (["--dry-run"], [], ["--overwrite"]):
        refused = envsync.push(SERVER, *options, expect=PREFLIGHT)
        assert refused.error["code"] == "target-is-source"
        assert refused.error["hint"].endswith(f"names {SERVER}, leave that out")
        assert tree(tmp_path) == before


def test_a_mount_point_is_refused(source: Stamped, fresh_lab: Lab) -> None:
    target, envsync = fresh_lab[SERVER], Envsync(fresh_lab.controller)
    target.path("/run/lab/elsewhere").mkdir()
    environment(target).mkdir()
    target.mount_over("/run/lab/elsewhere", f"{target.prefix}/envs/{ENVIRONMENT}")
    refused = envsync.push(SERVER, expect=PREFLIGHT)
    assert "is a mount point" in refused.error["message"]
    assert "unmount it" in refused.error["hint"]
    assert [*environment(target).iterdir()] == []
    assert not state(target).exists()


def test_an_overlays_lower_layer_is_refused_before_anything_is_sent(
    source: Stamped, fresh_lab: Lab
) -> None:
    target, envsync = fresh_lab[SERVER], Envsync(fresh_lab.controller)
    envsync.push(SERVER)
    source.change()
    target.cover_with_overlay()
    before = contents(tree(environment(target)))
    refused = envsync.push(SERVER, expect=PREFLIGHT)
    assert "lower layer" in refused.error["message"]
    assert contents(tree(environment(target))) == before
    assert not (state(target) / "staging.json").exists()
    command = refused.error["hint"].split("`")[1]
    target.run(["sh", "-c", command])
    assert envsync.push(SERVER).server["outcome"] == "pushed"
    source.change()
    assert envsync.push(SERVER).server["outcome"] == "pushed"
    assert version_at(target) == source.version
    assert not environment(target).is_symlink()


def test_an_environment_on_another_disk_at_both_ends(source: Stamped, fresh_lab: Lab) -> None:
    """The user's link stays, and a switch is one step on that disk."""
    controller, target = fresh_lab.controller, fresh_lab[SERVER]
    place = f"{target.prefix}-disk/of-alice"
    for host in (controller, target):
        host.run(["mkdir", "-p", f"{place}"])
    target.run(["ln", "-s", place, f"{target.prefix}/envs/{ENVIRONMENT}"])
    envs = f"{controller.prefix}/envs"
    controller.run(["sh", "-c", f"rmdir {place} && mv {envs}/{ENVIRONMENT} {place}"])
    controller.run(["ln", "-s", place, f"{envs}/{ENVIRONMENT}"])
    envsync = Envsync(controller)
    refused = envsync.push(SERVER, expect=DRIFT)
    assert "never published" in refused.error["message"]
    for options in (["--overwrite"], ["--transport", "rsync"]):
        envsync.push(SERVER, *options)
        there = tree(target.path(place))
        assert_same(tree(controller.path(place)), there)
        rewritten = controller.path(f"{place}/stamps/007")
        content = rewritten.read_bytes()
        rewritten.unlink()
        rewritten.write_bytes(content[::-1])
    assert target.run(["readlink", f"{target.prefix}/envs/{ENVIRONMENT}"]).stdout == f"{place}\n"
    assert [*target.path(f"{target.prefix}/envs").iterdir()] == [environment(target)]
    assert conda_sees(target) == [ENVIRONMENT]
