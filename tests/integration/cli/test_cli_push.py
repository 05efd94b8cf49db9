"""`envsync push` as a person and as a program meet it."""

from __future__ import annotations

import os
import pty
import re
import signal

import pytest

from tests.lab.envsync_command import Envsync
from tests.lab.lab import Lab
from tests.support.processes import wait_until

pytestmark = pytest.mark.timeout(120)

FIRST = re.compile(
    r"myenv -> server2 \.\.\.\n"
    r"myenv -> server2: [\d,]+ files, [\d.]+ MB; [\d,]+ files sent "
    r"\([\d.]+ MB, [\d.]+ MB on the wire, \w+\), [\d.]+ s\n\Z"
)


def test_push_works_without_any_configuration(conda_lab: Lab, envsync: Envsync) -> None:
    envsync.forget_inventory()
    active = {"CONDA_PREFIX": f"{conda_lab.controller.prefix}/envs/myenv"}
    first = envsync("push", "myenv", "server2", env=active)
    assert FIRST.match(first.stdout), first.stdout
    assert all(line.startswith("warning: server2: ") for line in first.stderr.splitlines())
    again = envsync("push", "myenv", "server2", env=active)
    assert re.search(r"\nmyenv -> server2: already at [0-9a-f]{12} \([\d.]+ s\)\n\Z", again.stdout)
    assert again.stderr == ""


def test_the_inventory_says_where_to(conda_lab: Lab, envsync: Envsync) -> None:
    planned = envsync.json("push", "myenv", "--dry-run")
    assert [report["outcome"] for report in planned["result"]["servers"]] == ["planned"] * 2
    assert "no environments on server2" in envsync("list", "server2").stdout
    pushed = envsync.json("push", "myenv")
    assert [report["server"] for report in pushed["result"]["servers"]] == ["server2", "server3"]
    assert {report["outcome"] for report in pushed["result"]["servers"]} == {"pushed"}
    conda_lab.controller.install_wheel("labtool", "1.0")
    human = envsync("push", "myenv", "server2", "--dry-run")
    assert "files to send" in human.stdout
    assert "labtool" in human.stdout
    assert "transport" in envsync("push", "myenv", "server2", "-v").stdout


def test_push_to_two_servers_with_one_down_reports_each(conda_lab: Lab, envsync: Envsync) -> None:
    conda_lab["server3"].stop_sshd()
    told = envsync("push", "myenv", status=20)
    assert "myenv -> server3: failed (connection-failed)" in told.stdout
    assert "\nenvsync: server3: " in "\n" + told.stderr
    assert told.stderr.endswith("envsync: 1 of 2 servers failed\n")
    document = envsync.json("push", "myenv", status=20)
    outcomes = [report["outcome"] for report in document["result"]["servers"]]
    assert outcomes == ["in-step", "failed"]
    assert document["result"]["servers"][1]["error"]["code"] == "connection-failed"
    assert document["error"]["code"] == "some-servers-failed"


def test_an_unknown_host_key(conda_lab: Lab, envsync: Envsync) -> None:
    controller = conda_lab.controller
    controller.path(f"{controller.home()}/.ssh/known_hosts").write_text("")
    told = envsync("push", "myenv", "server2", status=4)
    assert told.stdout == "myenv -> server2 ...\n"
    assert told.stderr.startswith("envsync: server2: the ssh-ed25519 host key of server2 is not")
    assert "\n  → compare that fingerprint" in told.stderr
    document = envsync.json("push", "myenv", "server2", status=4)
    assert document["error"]["code"] == "host-key-refused"
    assert document["error"]["server"] == "server2"


def test_fault_of_the_source_is_told_once_for_all_servers(conda_lab: Lab, envsync: Envsync) -> None:
    told = envsync("push", "mynev", "server2", "server3", status=21)
    assert told.stderr.startswith("envsync: there is no environment 'mynev' here; did you mean")
    controller = conda_lab.controller
    controller.path(f"{controller.prefix}/envs/plain").mkdir()
    told = envsync("push", "plain", "server2", "server3", status=9)
    assert told.stderr.count("is not a conda environment") == 1
    # ... and as the source's, whatever server it was meant for.
    assert envsync("push", "plain", "server2", status=9).stderr.startswith("envsync: server1: ")
    controller.path(f"{controller.home()}/cut.tar.gz").write_text("no archive")
    cut = envsync("unpack", f"{controller.home()}/cut.tar.gz", "server2", status=9).stderr
    assert cut.startswith(f"envsync: server1: {controller.home()}/cut.tar.gz is damaged")
    assert "envsync pack ENV -o FILE" in cut


def test_a_server_without_conda_is_named_with_what_brings_it(
    conda_lab: Lab, envsync: Envsync
) -> None:
    server2 = conda_lab["server2"]
    server2.run(["mv", server2.prefix, f"{server2.prefix}-elsewhere"])
    told = envsync("push", "myenv", "server2", status=8).stderr
    assert "server2: there is no conda prefix at" in told
    assert "`envsync bootstrap server2` installs conda there" in told


def test_drift_is_refused_with_the_packages(conda_lab: Lab, envsync: Envsync) -> None:
    envsync("push", "myenv", "server2")
    server2 = conda_lab["server2"]
    server2.install_wheel("labtool", "1.0")
    told = envsync("push", "myenv", "server2", status=11)
    assert told.stdout == "myenv -> server2 ...\n"
    assert "labtool" in told.stderr
    assert "`envsync diff myenv server2 --published`" in told.stderr
    planned = envsync("push", "myenv", "server2", "--dry-run", status=11)
    assert "would be refused" in planned.stdout
    assert "envsync: server2: " in planned.stderr
    overwritten = envsync("push", "myenv", "server2", "--overwrite")
    assert "kept as a generation" in overwritten.stdout


def test_ctrl_c_in_the_middle(conda_lab: Lab, envsync: Envsync) -> None:
    controller, server2 = conda_lab.controller, conda_lab["server2"]
    argv = ["envsync", "push", "myenv", "server2", "--limit", "8Mbit"]
    with controller.popen(argv) as process:
        trees = server2.path(f"{server2.prefix}/envs/.envsync/myenv/trees")
        wait_until(
            lambda: trees.is_dir() and any(path.is_file() for path in trees.rglob("*")),
            "files arrive",
            timeout_seconds=30,
        )
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)  # the transfer would take far longer
    assert process.returncode == 130
    assert out.decode() == "myenv -> server2 ...\n"
    assert err.decode() == "envsync: stopped; run the same command again to resume\n"
    assert not server2.path(f"{server2.prefix}/envs/myenv").exists()
    envsync("push", "myenv", "server2")
    envsync("verify", "myenv", "server2")


def test_ctrl_c_while_a_server_is_silent(conda_lab: Lab, envsync: Envsync) -> None:
    conda_lab["server3"].cut()
    with conda_lab.controller.popen(["envsync", "push", "myenv", "server3"]) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"myenv -> server3 ...\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=10)  # the server would be waited for for 15 s
    assert process.returncode == 130
    assert err.decode().count("\n") == 1


def test_push_on_a_terminal_shows_moving_lines(conda_lab: Lab, envsync: Envsync) -> None:
    screen = _on_a_terminal(conda_lab, "push", "myenv", "server2")
    assert "\x1b[" in screen
    assert "server2 connect" in screen
    assert re.search(r"myenv -> server2: [\d,]+ files, [\d.]+ MB; ", screen)


def _on_a_terminal(lab: Lab, *arguments: str) -> str:
    """What a terminal of its own gets to see of a command."""
    mine, its = pty.openpty()
    environ = {"TERM": "xterm", "COLUMNS": "100", "LINES": "30"}
    argv = ["envsync", *arguments]
    with lab.controller.popen(argv, env=environ, stdout=its, stderr=its) as process:
        os.close(its)
        seen = b""
        while True:
            try:
                part = os.read(mine, 4096)
            except OSError:  # the last writer has gone
                break
            seen += part
        assert process.wait(timeout=10) == 0, seen
    os.close(mine)
    return seen.decode()
