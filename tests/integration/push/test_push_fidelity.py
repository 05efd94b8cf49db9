"""What arrives is the source, whatever its names, links, modes and stamps; by every transport."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from envsync.transport.names import NAMED
from tests.integration.push.command import Envsync
from tests.integration.push.odd_files import add_odd_files
from tests.integration.push.places import environment, rewrite, site_packages
from tests.integration.push.tree_listing import assert_same, tree
from tests.lab.lab import Lab, LabHost


def make_odd(host: LabHost) -> Path:
    top = environment(host)
    add_odd_files(top, f"{host.prefix}/envs/myenv")
    return top / "share/odd"


@pytest.mark.parametrize("transport", NAMED)
def test_everything_arrives_as_it_is(conda_lab: Lab, envsync: Envsync, transport: str) -> None:
    controller, target = conda_lab.controller, conda_lab["server2"]
    odd = make_odd(controller)
    pushed = envsync.push("server2", "--transport", transport).server
    assert pushed["transport"] == transport
    assert_same(tree(environment(controller)), tree(environment(target)))

    # A group changes as a whole, another breaks up, a third comes; kinds change places.
    rewrite(odd / "group-a", b"the group has changed\n")
    (odd / "group-b").unlink()
    os.link(odd / "group-a", odd / "group-b")
    rewrite(odd / "other-b", b"one file\n")
    os.link(odd / "stamp-0", odd / "stamp-link")
    (odd / "link-dangling").unlink()
    (odd / "link-dangling").mkdir()
    (odd / "empty-directory").rmdir()
    (odd / "empty-directory").write_text("a file now\n")
    (odd / "closed").chmod(0o755)
    (odd / "closed/second").write_text("another\n")
    (odd / "closed").chmod(0o555)
    for _ in range(2):
        changed = envsync.push("server2", "--transport", transport).server
        assert changed["outcome"] == "pushed"
        assert changed["plan"]["fetch_files"] < 10
        assert_same(tree(environment(controller)), tree(environment(target)))
        # The second round goes by the tree of the first push, brought forward.
        rewrite(odd / "mode-444", b"again\n")


def test_bytecode_travels_and_is_no_drift(conda_lab: Lab, envsync: Envsync) -> None:
    controller, target = conda_lab.controller, conda_lab["server2"]
    package = site_packages(controller) / "late"
    package.mkdir()
    (package / "__init__.py").write_text("value = 1\n")
    controller.install_wheel("tiny-wheel", "1.0")
    cached = [*site_packages(controller).rglob("*.pyc")]
    assert cached
    envsync.push("server2")
    for path in cached:
        there = site_packages(target) / path.relative_to(site_packages(controller))
        assert there.read_bytes() == path.read_bytes()

    python = f"{target.prefix}/envs/myenv/bin/python"
    variables = {"PYTHONDONTWRITEBYTECODE": ""}
    target.run([python, "-c", "import late, xml.dom.minidom"], env=variables)
    assert [*(site_packages(target) / "late/__pycache__").iterdir()] != []
    assert envsync.push("server2").server["outcome"] == "in-step"
    assert envsync.ok("verify", "myenv", "server2").server["verified"]["damaged"] == []

    (package / "__init__.py").write_text("value = 2\n")
    assert envsync.push("server2").server["outcome"] == "pushed"
    told = target.run([python, "-c", "import late; print(late.value)"], env=variables)
    assert told.stdout == "2\n"


def test_local_paths_stay_with_each_server(conda_lab: Lab, envsync: Envsync) -> None:
    controller, target = conda_lab.controller, conda_lab["server2"]
    here, there = environment(controller), environment(target)
    (here / "conda-meta/state").write_text('{"env_vars": {"HOST": "server1"}}')
    (here / "var/cache/fontconfig").mkdir(parents=True)
    (here / "var/cache/fontconfig/of-server1").write_text("1")
    envsync.push("server2")
    assert not (there / "conda-meta/state").exists()
    assert not (there / "var/cache/fontconfig/of-server1").exists()

    (there / "conda-meta/state").write_text('{"env_vars": {"HOST": "server2"}}')
    (there / "var/cache/fontconfig").mkdir(parents=True)
    (there / "var/cache/fontconfig/of-server2").write_text("2")
    (there / "var/cache/fontconfig/link").symlink_to("/etc/hostname")
    assert envsync.push("server2").server["outcome"] == "in-step"
    for version in ("1.0", "1.1", "1.2"):
        rewrite(here / "share/lab/version", version.encode())
        assert envsync.push("server2").server["outcome"] == "pushed"
        assert "server2" in (there / "conda-meta/state").read_text()
        fonts = {path.name for path in (there / "var/cache/fontconfig").iterdir()}
        assert fonts == {"of-server2", "link"}
        assert (there / "var/cache/fontconfig/link").is_symlink()
    assert "server1" in (here / "conda-meta/state").read_text()


def test_a_source_is_never_written_to(conda_lab: Lab, envsync: Envsync) -> None:
    controller = conda_lab.controller
    before = tree(controller.path(controller.prefix))
    controller.remount("ro")
    try:
        envsync.push("server2", "server3")
    finally:
        controller.remount("rw")
    assert tree(controller.path(controller.prefix)) == before
