"""The main job: a real conda environment, pushed to two servers, runs there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.integration.push.command import Envsync
from tests.integration.push.places import environment, trees
from tests.integration.push.real_environment import conda_records, runs
from tests.integration.push.tree_listing import assert_same, file_inodes, tree
from tests.lab.lab import Lab, LabHost

INVENTORY = """\
prefix: {prefix}
servers:
  server1: {{}}
  server[2-3]:
    groups: [lab]
environments:
  myenv:
    source: server1
    push_to: ["@lab"]
"""


def test_environment_pushed_to_two_servers_at_once_runs_there(
    conda_lab: Lab, envsync: Envsync
) -> None:
    controller, targets = conda_lab.controller, conda_lab.targets
    ran = envsync.push("server2", "server3")
    assert [server["server"] for server in ran.servers] == ["server2", "server3"]
    assert {server["outcome"] for server in ran.servers} == {"pushed"}
    assert len({server["revision"] for server in ran.servers}) == 1
    source = tree(environment(controller))
    for target in targets:
        runs(target)
        assert conda_records(target) == conda_records(controller)
        assert_same(source, tree(environment(target)))
    again = envsync.push("server2", "server3")
    assert {server["outcome"] for server in again.servers} == {"in-step"}


def test_second_push_sends_only_the_change(conda_lab: Lab, envsync: Envsync) -> None:
    controller, target = conda_lab.controller, conda_lab["server2"]
    first = envsync.push("server2").server
    assert first["plan"]["origin"] == "new"
    assert first["plan"]["fetch_bytes"] > 5_000_000
    assert first["record"]["number"] == 1

    controller.install_wheel("tiny-wheel", "1.0")
    second = envsync.push("server2").server
    assert second["plan"]["origin"] == "new"
    assert 0 < second["plan"]["fetch_files"] < 12
    assert second["plan"]["fetch_bytes"] < 20_000

    controller.change_package("lab-variant ==2.0")
    third = envsync.push("server2").server
    assert third["plan"]["origin"] == "spare"
    assert 0 < third["plan"]["fetch_files"] < 25
    assert third["plan"]["copy_bytes"] < 100_000
    assert third["wire_bytes"] < 60_000

    runs(target, variant="2.0")
    assert_same(tree(environment(controller)), tree(environment(target)))
    verified = envsync.ok("verify", "myenv", "server2").server["verified"]
    assert verified["revision"] == third["revision"]
    assert (verified["damaged"], verified["missing"], verified["unexpected"]) == ([], [], [])
    events = envsync.ok("history", "myenv", "server2").server["events"]
    assert [event["revision"] for event in events] == [
        pushed["revision"] for pushed in (first, second, third)
    ]
    assert events[-1]["who"] == f"{controller.user}@server1"
    require_no_inode_shared(target)


def require_no_inode_shared(target: LabHost) -> None:
    """Neither with the generation that is kept nor with conda's base."""
    places = [environment(target), *trees(target)]
    assert len(places) == 2
    inodes = [file_inodes(tree(place)) for place in places]
    base = file_inodes(tree(target.path(f"{target.prefix}/lib")))
    assert not inodes[0] & inodes[1]
    assert not (inodes[0] | inodes[1]) & base


def test_list_history_and_diff_tell_the_same(conda_lab: Lab, envsync: Envsync) -> None:
    controller = conda_lab.controller
    envsync.configure(INVENTORY.format(prefix=controller.prefix))
    pushed = envsync.push()
    assert [server["server"] for server in pushed.servers] == ["server2", "server3"]
    revision = pushed.servers[0]["revision"]
    listed = {server["server"]: server["environments"] for server in envsync.ok("list").servers}
    assert set(listed) == {"server1", "server2", "server3"}
    assert {rows[0]["revision"] for rows in listed.values()} == {revision}
    assert {rows[0]["packages"] for rows in listed.values()} == {len(conda_records(controller))}

    controller.change_package("lab-variant ==2.0")
    controller.install_wheel("tiny-wheel", "1.0")
    difference = envsync.ok("diff", "myenv", "server3", "--files").result
    packages = "\n".join(difference["difference"]["packages"])
    assert "lab-variant" in packages
    assert "tiny_wheel" in packages
    assert "only_in_2.py" in "\n".join(difference["difference"]["paths"])
    assert envsync.ok("diff", "myenv", "server3", "--published").exit_code == 0


def test_a_dry_run_touches_nothing_and_tells_what_comes(conda_lab: Lab, envsync: Envsync) -> None:
    controller, target = conda_lab.controller, conda_lab["server2"]
    storage = target.path(target.prefix)
    untouched = tree(storage)
    planned = envsync.push("server2", "--dry-run").server
    assert planned["outcome"] == "planned"
    assert planned["plan"]["fetch_files"] > 100
    assert any("lab-variant" in package for package in planned["plan"]["packages"])
    assert tree(storage) == untouched

    assert_as_planned(planned, envsync.push("server2").server)
    controller.change_package("lab-variant ==2.0")
    controller.install_wheel("tiny-wheel", "1.0")
    untouched = tree(storage)
    planned = envsync.push("server2", "--dry-run").server
    assert 0 < planned["plan"]["fetch_files"] < 30
    told = "\n".join(planned["plan"]["packages"])
    assert "lab-variant" in told
    assert "tiny_wheel" in told
    assert tree(storage) == untouched
    assert_as_planned(planned, envsync.push("server2").server)
    runs(target, variant="2.0")


def assert_as_planned(planned: Mapping[str, Any], ran: Mapping[str, Any]) -> None:
    """Contents exactly, and what they come to on the wire within 30 %."""
    assert planned["plan"]["fetch_bytes"] == ran["plan"]["fetch_bytes"]
    assert 0.7 < planned["predicted_wire_bytes"] / ran["wire_bytes"] < 1.3


def test_a_copy_under_another_name_is_there_already(conda_lab: Lab, envsync: Envsync) -> None:
    """Only what is new travels; the rest is copied there, and shares nothing."""
    controller, target = conda_lab.controller, conda_lab["server2"]
    first = envsync.push("server2").server
    envs = environment(controller).parent
    here = f"{controller.prefix}/envs"
    controller.run(["cp", "-a", f"{here}/myenv", f"{here}/clone"])
    (envs / "clone/share/added").write_bytes(b"of the clone only")
    planned = envsync.ok("push", "clone", "server2", "--dry-run").server["plan"]
    ran = envsync.ok("push", "clone", "server2").server
    assert ran["plan"]["reused_from"] == ["myenv"]
    assert ran["plan"]["reused_bytes"] > 0.9 * first["plan"]["fetch_bytes"]
    assert planned["fetch_bytes"] == ran["plan"]["fetch_bytes"] < 1000
    assert ran["wire_bytes"] < 0.01 * first["wire_bytes"]
    there = environment(target).parent
    assert_same(tree(envs / "clone"), tree(there / "clone"))
    assert not file_inodes(tree(there / "clone")) & file_inodes(tree(there / "myenv"))
