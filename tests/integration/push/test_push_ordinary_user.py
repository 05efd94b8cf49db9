"""On the servers nobody is root: what root may ignore, an ordinary user has to get right."""

from __future__ import annotations

import os

import pytest

from tests.integration.push.command import Envsync
from tests.integration.push.odd_files import add_odd_files
from tests.integration.push.places import environment, rewrite, trees
from tests.integration.push.tree_listing import assert_same, tree
from tests.lab.host import USER
from tests.lab.lab import Lab, LabHost


def give_to_user(host: LabHost) -> None:
    """The host's prefix belongs to the ordinary user, whom ssh now leads to."""
    owner = host.path(host.home(USER)).stat()
    top = host.path(host.prefix)
    for path in (top.parent, top, *top.rglob("*")):
        os.lchown(path, owner.st_uid, owner.st_gid)


@pytest.mark.parametrize(("transport", "versions"), [("stream", 4), ("rsync", 2), ("scp", 2)])
def test_read_only_directories_and_files_are_no_obstacle(
    conda_lab: Lab, envsync: Envsync, transport: str, versions: int
) -> None:
    controller, target = conda_lab.controller, conda_lab["server2"]
    give_to_user(target)
    configuration = f"{controller.home()}/.ssh/config"
    text = controller.path(configuration).read_text()
    controller.write_file(configuration, f"Host server2\n    User {USER}\n{text}")
    add_odd_files(environment(controller), f"{controller.prefix}/envs/myenv")
    closed = environment(controller) / "share/odd/closed"
    for version in range(1, versions + 1):
        closed.chmod(0o755)
        rewrite(closed / f"of-version-{version}", b"%d" % version)
        (closed / "below").mkdir(exist_ok=True)
        rewrite(closed / "below/file", b"%d" % version)
        (closed / "below").chmod(0o500 if version % 2 else 0o700)
        closed.chmod(0o555)
        pushed = envsync.push("server2", "--transport", transport).server
        assert pushed["outcome"] == "pushed"
        assert_same(tree(environment(controller)), tree(environment(target)))
        (closed / "below").chmod(0o700)
    assert len(trees(target)) == 1
    user = target.path(target.home(USER)).stat().st_uid
    assert environment(target).stat().st_uid == user
    assert (environment(target) / "bin/python").lstat().st_uid == user
    back = envsync.ok("rollback", "myenv", "server2").result["record"]
    assert back["number"] == versions - 1
