"""The source on another server: `pull`, and `push --from`."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.integration.push.command import Envsync, finish
from tests.integration.push.places import add_softlink, environment
from tests.integration.push.planted import Stop, plant
from tests.integration.push.stamped import Stamped, version_at, wait_quiet
from tests.integration.push.tree_listing import assert_same, tree
from tests.integration.servers.inventories import INVENTORY
from tests.lab.lab import Lab

pytestmark = pytest.mark.timeout(120)

SHRUNK, DRIFT = 10, 11


def test_pulled_and_pushed_between_others(fresh_lab: Lab) -> None:
    source = Stamped.in_lab(fresh_lab)
    server2, server3 = fresh_lab["server2"], fresh_lab["server3"]
    envsync = Envsync(server2)
    envsync.configure(INVENTORY.format(prefix=server2.prefix))
    add_softlink(fresh_lab["server1"])
    first = envsync.ok("pull", "myenv", "server1")
    assert (first.server["outcome"], first.server["connection"]) == ("pushed", "here")
    assert first.result["source"]["server"] == "server1"
    assert_same(tree(source.top), tree(environment(server2)), but=[b"linked"])
    linked = environment(server2) / "linked"
    assert (linked.is_symlink(), linked.read_text()) == (False, "linked\n" * 10)
    source.change()
    both = envsync.push("--from", "server1")
    assert [each["server"] for each in both.servers] == ["server2", "server3"]
    assert [each["outcome"] for each in both.servers] == ["pushed", "pushed"]
    assert both.servers[1]["record"]["source"].startswith("server1:")
    assert version_at(server2) == version_at(server3) == source.version
    envsync.ok("verify", "myenv", "server3")
    # What was changed here is no more overwritten than anywhere else.
    (server2.path(f"{server2.prefix}/envs/myenv") / "by-hand").write_text("x")
    refused = envsync.run("pull", "myenv", "server1").error
    assert refused["code"] == "drift"
    assert "`envsync diff myenv server2 --published`" in refused["hint"]
    assert envsync.run("pull", "nosuch", "server1").error["server"] == "server1"


def _empty(source: Stamped) -> None:
    for path in (source.top / "moving-1").iterdir():
        path.write_text("")


def _forget_packages(source: Stamped) -> None:
    (source.top / "conda-meta/lab-1.0-0.json").unlink()


@pytest.mark.parametrize(
    ("ruin", "seen"),
    [
        (_empty, "100 files are empty that have content on the target"),
        (_forget_packages, "it has no package record in conda-meta, but the target has 1"),
    ],
)
@pytest.mark.parametrize(
    ("arguments", "target", "again"),
    [
        (("pull", "myenv", "server1"), "server2", "envsync pull myenv server1"),
        (
            ("push", "myenv", "server3", "--from", "server1"),
            "server3",
            "envsync push myenv server3 --from server1",
        ),
    ],
    ids=["pull", "push --from"],
)
def test_a_source_elsewhere_that_was_emptied_in_part_is_not_replicated(
    fresh_lab: Lab,
    arguments: tuple[str, ...],
    target: str,
    again: str,
    ruin: Callable[[Stamped], None],
    seen: str,
) -> None:
    source, there = Stamped.in_lab(fresh_lab), environment(fresh_lab[target])
    (source.top / "conda-meta/lab-1.0-0.json").write_text("{}")
    envsync = Envsync(fresh_lab["server2"])
    envsync.configure(INVENTORY.format(prefix=fresh_lab["server2"].prefix))
    envsync.ok(*arguments)
    before = tree(there)
    ruin(source)
    refused = envsync.run(*arguments)
    assert (refused.exit_code, refused.error["code"]) == (SHRUNK, "source-shrunk")
    assert refused.error["message"] == f"the source looks ruined: {seen}"
    assert refused.error["hint"] == f"if that is what you want: {again} --allow-shrink"
    assert tree(there) == before
    envsync.ok(*arguments, "--allow-shrink")
    assert_same(tree(source.top), tree(there))


def test_version_that_was_made_by_hand_and_pulled_is_put_on_record_by_a_push(
    fresh_lab: Lab,
) -> None:
    source = Stamped.in_lab(fresh_lab)
    server2 = fresh_lab["server2"]
    envsync = Envsync(fresh_lab["server1"])
    envsync.configure(INVENTORY.format(prefix=server2.prefix))
    envsync.push("server2")
    (environment(server2) / "by-hand").write_text("x")
    envsync.push("server2", expect=DRIFT)
    envsync.ok("pull", "myenv", "server2", "--overwrite")
    planned = envsync.push("server2", "--dry-run").server
    assert (planned["outcome"], planned["record"]) == ("in-step", None)
    assert envsync.push("server2").server["outcome"] == "adopted"
    source.change()
    assert envsync.push("server2").server["outcome"] == "pushed"
    assert_same(tree(source.top), tree(environment(server2)))


def test_hint_of_a_refused_push_or_pull_names_a_diff_of_the_source(fresh_lab: Lab) -> None:
    """Where what stands there was never published, that is between the source and it."""
    Stamped.in_lab(fresh_lab)
    server1, server2 = fresh_lab["server1"], fresh_lab["server2"]
    for name in ("myenv", "other"):
        (server2.path(f"{server2.prefix}/envs/{name}/conda-meta")).mkdir(parents=True)
        (server2.path(f"{server2.prefix}/envs/{name}/conda-meta/history")).touch()
    here, there = Envsync(server1), Envsync(server2)
    here.configure(INVENTORY.format(prefix=server1.prefix))
    there.configure(INVENTORY.format(prefix=server2.prefix))
    pushed = here.push("server2", expect=DRIFT).error["hint"]
    assert "`envsync diff myenv server2`" in pushed
    pulled = there.run("pull", "myenv", "server1").error["hint"]
    assert "`envsync diff myenv server1`" in pulled
    assert there.ok("diff", "myenv", "server1").exit_code == 0
    renamed = here.push("server2", "--as", "other", expect=DRIFT).error["hint"]
    assert "`envsync diff myenv server2 --as other`" in renamed
    told = here.ok("diff", "myenv", "server2", "--as", "other").document["result"]
    assert (told["environment"], told["name_there"]) == ("myenv", "other")
    assert told["difference"]["removed"] > 10
    here.push("server2", "--as", "other", "--overwrite")
    same = here.ok("diff", "myenv", "server2", "--as", "other").document["result"]["difference"]
    assert (same["added"], same["removed"], same["changed"]) == (0, 0, 0)


def test_a_source_that_is_killed_while_it_sends(fresh_lab: Lab) -> None:
    source = Stamped.in_lab(fresh_lab)
    command = plant(fresh_lab["server3"])
    command.ok("pull", "myenv", "server1")
    before = version_at(fresh_lab["server3"])
    source.change()
    stop = Stop(fresh_lab["server1"], "source.send")
    process = command.start("pull", "myenv", "server1")
    stop.kill()
    ran = finish(process)
    assert (ran.exit_code, ran.error["server"]) == (6, "server1"), ran.document
    assert version_at(fresh_lab["server3"]) == before
    wait_quiet(fresh_lab["server3"])
    command.ok("pull", "myenv", "server1")
    assert version_at(fresh_lab["server3"]) == source.version
