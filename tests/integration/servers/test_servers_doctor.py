"""`envsync doctor` on servers that are well, odd and dead."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from envsync.agent.places.layout import environment_layout
from envsync.agent.places.records import Records
from envsync.errors import CheckFailed, RevisionHeld
from tests.integration.push.places import environment
from tests.lab.envsync_command import Envsync
from tests.lab.lab import Lab

pytestmark = pytest.mark.timeout(120)


def _by_server(document: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {each["server"]: each for each in document["result"]["servers"]}


def test_servers_that_are_well(served: Lab, envsync: Envsync) -> None:
    envsync("push", "myenv", "server2")
    found = _by_server(envsync.json("doctor"))
    assert [found[name]["connection"] for name in found] == ["here", "fabric", "fabric"]
    assert found["server2"]["is_key_known"] is True
    assert found["server2"]["python"] == f"{served.controller.prefix}/bin/python"
    assert found["server2"]["environments"] == [
        {"name": "myenv", "state": "published", "reason": ""}
    ]
    assert found["server1"]["environments"][0]["state"] == "unpublished"
    assert not any(one["fails"] for each in found.values() for one in each["complaints"])
    table = envsync("doctor", "@all").stdout.splitlines()
    assert table[0].split()[:4] == ["SERVER", "REACHED", "KEY", "PREFIX"]
    assert [line.split()[0] for line in table[1:3]] == ["server2", "server3"]


def test_each_trouble_is_named_with_what_mends_it(served: Lab, envsync: Envsync) -> None:
    server2, server3 = served["server2"], served["server3"]
    envsync("push", "myenv", "server2")
    server2.write_file(f"{server2.home()}/.bashrc", "echo welcome\n")
    (environment(served["server2"]) / "by-hand").write_text("x")
    server3.stop_sshd()
    known = f"{served.controller.home()}/.ssh/known_hosts"
    keys = served.controller.path(known).read_text()
    try:
        told = envsync("doctor", status=20)
        assert "its login files print without a terminal: 'welcome'" in told.stdout
        assert "→ envsync diff myenv server2 --published" in told.stdout
        assert told.stderr.count("server3: refuses connections") == 1
        served.controller.write_file(known, "")
        alone = _by_server(envsync.json("doctor", "server2", status=4))["server2"]
        assert (alone["is_reached"], alone["is_key_known"]) == (True, False)
        assert " REFUSED " in envsync("doctor", "server2", status=4).stdout
    finally:
        served.controller.write_file(known, keys)
        server3.start_sshd()
        served["server2"].path(f"{server2.home()}/.bashrc").unlink()


def test_hint_names_the_host_and_not_the_inventorys_name(served: Lab, envsync: Envsync) -> None:
    """The inventory's name of a server is none that ssh knows."""
    here, server2 = served.controller, served["server2"]
    inventory, login = "/run/lab/edge.yaml", f"{server2.home()}/.bashrc"
    here.write_file(inventory, f"prefix: {here.prefix}\nservers: {{edge: {{host: server2}}}}\n")
    server2.write_file(login, "echo welcome\n")
    try:
        document = envsync.json("doctor", "edge", env={"ENVSYNC_CONFIG": inventory})
    finally:
        server2.path(login).unlink()
    commands = [one["command"] for one in _by_server(document)["edge"]["complaints"]]
    [ssh] = [shlex.split(command) for command in commands if command.startswith("ssh -t ")]
    assert here.run([*ssh[:-1], "hostname"]).stdout.strip() == "server2"


def test_doctor_passes_over_what_a_failed_first_push_left(served: Lab, envsync: Envsync) -> None:
    """Its directory is there, but no version that anybody could go back to."""
    left = served["server3"].path(f"{served['server3'].prefix}/envs/.envsync/nothere/trees")
    left.mkdir(parents=True)
    try:
        document = envsync.json("doctor", "server3")
        assert _by_server(document)["server3"]["environments"] == []
    finally:
        left.rmdir()
        left.parent.rmdir()


def test_a_held_version_is_named_until_another_was_published(served: Lab, envsync: Envsync) -> None:
    def is_named() -> bool:
        return "a version is held: rolled back by" in envsync("doctor", "server2").stdout

    envsync("push", "myenv", "server2", "--overwrite")
    package = environment(served["server1"]) / "changed.txt"
    for number in (1, 2):
        package.write_text(str(number))
        envsync("push", "myenv", "server2")
        assert not is_named()
        if number == 1:
            envsync("rollback", "myenv", "server2")
            assert is_named()
    package.unlink()


def test_a_first_version_that_is_refused_is_named_by_doctor_and_history(
    served: Lab, envsync: Envsync
) -> None:
    inventory = "/run/lab/checked.yaml"
    served.controller.write_file(
        inventory,
        f"prefix: {served.controller.prefix}\nservers: {{server2: , server3: }}\n"
        "environments: {new: {check: 'exit 3'}}\n",
    )
    config = {"ENVSYNC_CONFIG": inventory}
    environments = f"{served.controller.prefix}/envs"
    served.controller.run(["cp", "-a", f"{environments}/myenv", f"{environments}/new"])
    for status in (CheckFailed.exit_code, RevisionHeld.exit_code):
        envsync("push", "new", "server3", status=status, env=config)
    told = envsync("doctor", "server3", env=config).stdout
    assert "server3: new: a version is held: its check failed: exit status 3" in told
    assert "→ envsync history new server3" in told
    told = envsync("history", "new", "server3", env=config).stdout
    assert "its check failed: exit status 3" in told


def test_all_reasons_why_versions_are_held_are_named(served: Lab, envsync: Envsync) -> None:
    layout = environment_layout(str(served["server2"].path(served["server2"].prefix)), "myenv")
    envsync("push", "myenv", "server2", "--overwrite")
    held = Records(layout).held
    held.hold("1" * 64, "rolled back by alice@server1")
    held.hold("2" * 64, "its check failed: exit status 1")
    Path(os.fsdecode(layout.file("held.json"))).chmod(0o644)
    told = envsync("doctor", "server2").stdout
    assert "are held: its check failed: exit status 1; rolled back by alice@server1" in told


def test_a_server_without_conda(served: Lab, envsync: Envsync) -> None:
    moved = served["server3"].path(served["server3"].prefix)
    moved.rename(moved.with_name("away"))
    try:
        told = envsync("doctor", "server3", status=8)
        assert "there is no conda prefix at" in told.stderr
        assert "if it is nowhere: envsync bootstrap server3" in told.stderr
    finally:
        moved.with_name("away").rename(moved)
