"""`envsync bootstrap`: a server with nothing on it becomes one of the lab's."""

from __future__ import annotations

import os
import shutil
import sys

import pytest

from tests.integration.push.places import environment
from tests.lab.envsync_command import INVENTORY, Envsync
from tests.lab.host import USER
from tests.lab.lab import Lab

pytestmark = pytest.mark.timeout(120)


def test_a_new_server(served: Lab, envsync: Envsync) -> None:
    host = served["server2"]
    prefix = host.path(host.prefix)
    shutil.rmtree(prefix.parent)
    planned = envsync.json("bootstrap", "server2", "--dry-run")["result"]
    assert (planned["base"]["outcome"], planned["environments"]) == ("planned", [])
    assert planned["then"] == ["myenv"]
    assert not prefix.parent.exists()
    result = envsync.json("bootstrap", "server2")["result"]
    assert result["base"]["outcome"] == "pushed"
    assert [each["environment"] for each in result["environments"]] == ["myenv"]
    for python in (f"{host.prefix}/bin/python", f"{host.prefix}/envs/myenv/bin/python"):
        assert host.run([python, "-c", "import ssl; print('it runs')"]).stdout == "it runs\n"
    assert {path.name for path in (prefix / "envs").iterdir()} == {".envsync", "myenv"}
    assert list((prefix / "pkgs").iterdir()) == []
    assert all(path.stat().st_mode & 0o777 == 0o755 for path in (prefix.parent, prefix / "envs"))
    conda = served.controller.path(f"{host.prefix}/bin/conda")
    assert envsync("bootstrap", "server2").stdout.endswith("server2 is ready\n")
    conda.write_text("")
    try:
        told = envsync("bootstrap", "server2").stdout
        assert told.endswith(f"; for its shells, run there: {host.prefix}/bin/conda init\n")
    finally:
        conda.unlink()
    again = envsync.json("bootstrap", "server2")["result"]
    assert again["base"]["outcome"] == again["environments"][0]["outcome"] == "in-step"


def test_a_conda_that_would_not_run_there_is_not_installed(served: Lab, envsync: Envsync) -> None:
    """As on a system whose glibc is older than what the base was built with."""
    host = served["server2"]
    prefix = host.path(host.prefix)
    shutil.rmtree(prefix.parent, ignore_errors=True)
    older = "import os; os.confstr = lambda _: 'glibc 2.1'; $5"
    script = f'#!/bin/sh\nexec {sys.executable} $1 $2 $3 $4 "{older}"\n'
    host.write_file("/run/lab/bin/python3", script, 0o755)
    host.start_sshd("SetEnv PATH=/run/lab/bin:/usr/bin:/bin\n")
    try:
        for dry_run in (["--dry-run"], []):
            error = envsync.json("bootstrap", "server2", *dry_run, status=8)["error"]
            assert error["message"].startswith("conda would not run there: ")
            assert error["message"].endswith(", but the target has 2.1")
        assert not prefix.exists()
    finally:
        host.start_sshd()


def test_a_conda_that_is_there_stays(served: Lab, envsync: Envsync) -> None:
    host = served["server3"]
    mine = host.path(f"{host.prefix}/conda-meta/mine")
    mine.write_text("x")
    planned = envsync.json("bootstrap", "server3", "--dry-run")["result"]["base"]
    assert planned["in_use"] == [], "the agent itself is none that uses it"
    done = envsync("bootstrap", "server3")
    assert "there is another conda at the prefix already" in done.stderr
    assert mine.read_text() == "x"
    assert environment(served["server3"]).is_dir()


@pytest.mark.skipif(os.geteuid() != 0, reason="two users need root")
def test_prefix_that_the_user_may_not_make_is_refused_with_a_hint(
    served: Lab, envsync: Envsync
) -> None:
    controller, host = served.controller, served["server2"]
    shutil.rmtree(host.path(host.prefix).parent)
    file = f"{controller.home()}/.config/envsync/config.yaml"
    text = INVENTORY.format(prefix=host.prefix)
    controller.write_file(file, text.replace("server2: {", f"server2: {{user: {USER}, "))
    try:
        error = envsync.json("bootstrap", "server2", status=8)["error"]
    finally:
        controller.write_file(file, text)
    above = host.prefix.rpartition("/")[0]
    assert error["hint"].endswith(f"sudo install -d -m 755 -o {USER} {above}")


def test_an_environment_that_cannot_come_holds_up_no_other(served: Lab, envsync: Envsync) -> None:
    """One that is not at its source, and one whose source does not answer."""
    controller, host = served.controller, served["server2"]
    shutil.rmtree(host.path(host.prefix).parent, ignore_errors=True)
    file = f"{controller.home()}/.config/envsync/config.yaml"
    text = INVENTORY.format(prefix=host.prefix)
    _, _, listed = text.partition("environments:\n")
    more = "  ghost: {push_to: [server2]}\n  far: {source: server3, push_to: [server2]}\n"
    controller.write_file(file, text.replace(listed, more + listed))
    served["server3"].stop_sshd()
    try:
        told = envsync.json("bootstrap", "server2", status=20)["result"]
    finally:
        served["server3"].start_sshd()
        controller.write_file(file, text)
    codes = {
        each["environment"]: (each["error"] or {}).get("code") for each in told["environments"]
    }
    assert codes == {"ghost": "not-found", "far": "connection-failed", "myenv": None}
    assert environment(served["server2"]).is_dir()


def test_bootstrap_of_this_machine_takes_conda_from_another(served: Lab, envsync: Envsync) -> None:
    """And with it the environments that no server is the source of."""
    controller = served.controller
    envsync("push", "myenv", "server3")
    prefix = controller.path(controller.prefix)
    aside = prefix.with_name("aside")
    prefix.rename(aside)
    file = f"{controller.home()}/.config/envsync/config.yaml"
    text = INVENTORY.format(prefix=controller.prefix)
    head, _, _ = text.partition("  myenv:")
    controller.write_file(file, f"{head}  myenv: {{push_to: [server1]}}\n")
    try:
        told = envsync.json("doctor", "server1", status=8)["error"]
        assert told["hint"].endswith(": envsync bootstrap server1 --from SERVER")
        error = envsync.json("bootstrap", "server1", status=2)["error"]
        assert "--from" in error["hint"]
        result = envsync.json("bootstrap", "server1", "--from", "server3")["result"]
        python = f"{controller.prefix}/envs/myenv/bin/python"
        assert controller.run([python, "-c", "print('it runs')"]).stdout == "it runs\n"
    finally:
        controller.write_file(file, text)
        shutil.rmtree(prefix, ignore_errors=True)
        aside.rename(prefix)
    assert [each["outcome"] for each in (result["base"], *result["environments"])] == [
        "pushed",
        "pushed",
    ]


@pytest.mark.parametrize("is_link", [False, True], ids=["directory", "link"])
def test_environments_without_conda_stay_while_it_comes(
    served: Lab, envsync: Envsync, *, is_link: bool, request: pytest.FixtureRequest
) -> None:
    """As where somebody pushed before the first bootstrap, or lost conda itself."""
    host = served["server2"]
    prefix = host.path(host.prefix)
    shutil.rmtree(prefix, ignore_errors=True)
    if is_link:
        (prefix.parent / "elsewhere").mkdir(parents=True)
        prefix.symlink_to("elsewhere")
        request.addfinalizer(prefix.unlink)
    else:
        prefix.mkdir(parents=True)
    (prefix / "lost+found").mkdir()
    envsync("push", "myenv", "server2")
    stood = environment(served["server2"]).stat().st_ino
    result = envsync.json("bootstrap", "server2")["result"]
    assert (result["base"]["outcome"], result["environments"][0]["outcome"]) == (
        "pushed",
        "in-step",
    )
    assert environment(served["server2"]).stat().st_ino == stood
    for python in (f"{host.prefix}/bin/python", f"{host.prefix}/envs/myenv/bin/python"):
        assert host.run([python, "-c", "print('it runs')"]).stdout == "it runs\n"
    again = envsync.json("bootstrap", "server2")["result"]
    assert again["base"]["outcome"] == "in-step"


@pytest.mark.parametrize("left", ["note.txt", "lib/python3.13/x.py"])
def test_bootstrap_names_and_keeps_entries_that_are_no_conda(
    served: Lab, envsync: Envsync, left: str
) -> None:
    """Nothing is ready then, and nothing was pushed; once it is away, it is."""
    host = served["server2"]
    prefix = host.path(host.prefix)
    shutil.rmtree(prefix, ignore_errors=True)
    file = prefix / left
    file.parent.mkdir(parents=True)
    file.write_text("mine")
    for dry_run in (["--dry-run"], []):
        error = envsync.json("bootstrap", "server2", *dry_run, status=8)["error"]
        name = left.partition("/")[0]
        assert error["message"] == f"{host.prefix} has no conda, but contains other entries: {name}"
        assert "move it out of the prefix" in error["hint"]
    assert file.read_text() == "mine"
    assert not environment(served["server2"]).exists()
    shutil.rmtree(prefix)
    assert envsync.json("bootstrap", "server2")["result"]["base"]["outcome"] == "pushed"
