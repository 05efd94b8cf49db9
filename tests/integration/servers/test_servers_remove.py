"""`envsync remove`: in one step, nothing lost, brought back until `gc`."""

from __future__ import annotations

import pytest

from tests.integration.push.command import finish
from tests.integration.push.places import environment
from tests.integration.push.planted import Stop, plant
from tests.integration.push.stamped import Stamped, version_at, wait_quiet
from tests.lab.envsync_command import Envsync
from tests.lab.lab import Lab
from tests.support.processes import wait_until

pytestmark = pytest.mark.timeout(120)


def test_removed_brought_back_and_freed(served: Lab, envsync: Envsync) -> None:
    envsync("push", "myenv", "server2")
    top = environment(served["server2"])
    planned = envsync.json("remove", "myenv", "server2", "--dry-run")["result"]["servers"][0]
    assert (planned["error"], planned["record"]) == (None, None)
    assert top.is_dir()
    removed = envsync.json("remove", "myenv", "server2")["result"]["servers"][0]
    assert removed["record"]["revision"] == removed["revision"]
    assert not top.exists()
    envsync("rollback", "myenv", "server2")
    envsync("remove", "myenv", "server2")
    told = envsync("push", "myenv", "server2").stdout
    assert "it was removed there by " in told
    assert "; this puts it back" in told
    envsync("remove", "myenv", "server2")
    [freed] = envsync.json("gc", "server2")["result"]["servers"][0]["freed"]["environments"]
    assert freed["generations"] == [1, 2]
    assert envsync.json("remove", "myenv", "server2", status=21)["error"]["code"] == "not-found"
    assert "`envsync list server2`" in envsync("remove", "mynev", "server2", status=21).stderr


def test_removed_version_that_was_changed_there_is_kept_for_good(
    served: Lab, envsync: Envsync
) -> None:
    envsync("push", "myenv", "server3")
    top = environment(served["server3"])
    (top / "by-hand").write_text("precious")
    refused = envsync.json("remove", "myenv", "server3", status=11)["error"]
    assert "envsync diff myenv server3 --published" in refused["hint"]
    assert refused["hint"].endswith("; --overwrite removes it, and keeps it as a generation")
    planned = envsync.json("remove", "myenv", "server3", "-n", status=11)["result"]["servers"][0]
    assert planned["error"]["code"] == "drift"
    removed = envsync("remove", "myenv", "server3", "--overwrite").stdout
    assert removed.count("envsync gc") == removed.count("envsync gc server3 --drifted") == 1
    envsync("gc", "server3")
    envsync("rollback", "myenv", "server3")
    assert (top / "by-hand").read_text() == "precious"


def test_a_source_and_what_is_used_stay(served: Lab, envsync: Envsync) -> None:
    envsync("remove", "myenv", "server1", status=2)
    envsync("push", "myenv", "server2")
    host = served["server2"]
    python = f"{host.prefix}/envs/myenv/bin/python"
    user = host.popen([python, "-c", "input()"], stdin=-1)
    try:
        wait_until(lambda: host.processes(f"^{python}"), "it is used")
        refused = envsync.json("remove", "myenv", "server2", status=15)["error"]
        assert refused["message"].startswith("a process uses the environment there")
        assert "bin/python" in refused["details"][0]
        envsync("remove", "myenv", "server2", "--used")
    finally:
        user.kill()
        user.communicate()


@pytest.mark.parametrize(("moment", "happened"), [("switch", False), ("switched", True)])
def test_an_agent_that_is_killed(lab: Lab, moment: str, happened: bool) -> None:
    lab.reset()
    source = Stamped.in_lab(lab)
    command, target = plant(lab.controller), lab["server2"]
    command.push("server2")
    stop = Stop(target, moment)
    process = command.start("remove", "myenv", "server2")
    stop.kill()
    ran = finish(process)
    assert ran.exit_code == (0 if happened else 6), ran.document
    wait_quiet(target)
    assert version_at(target) == (None if happened else source.version)
    if happened:
        command.ok("rollback", "myenv", "server2")
    assert version_at(target) == source.version
