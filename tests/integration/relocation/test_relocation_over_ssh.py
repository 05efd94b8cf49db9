"""Pushes to servers with prefixes of their own, by each transport."""

from __future__ import annotations

import posixpath
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from envsync.tree.revision import short
from tests.conda import Template
from tests.integration.push.command import ENVSYNC, Envsync, finish
from tests.integration.push.planted import HASHING_WAITS, Stop, plant
from tests.integration.push.tree_listing import contents, tree
from tests.lab.lab import Lab, LabHost

DRIFT = 11


@pytest.fixture(scope="module")
def servers(lab: Lab, lab_template: Template) -> Iterator[Lab]:
    """server2 has a shorter prefix than the controller, server3 a longer one."""
    lab.reset()
    lab.controller.install_conda(lab_template)
    for host in lab.targets:
        for name in ("envs", "conda-meta"):
            host.path(f"{prefix_of(host)}/{name}").mkdir(parents=True)
    yield lab
    lab.reset()


def prefix_of(host: LabHost) -> str:
    top = posixpath.dirname(host.prefix)
    return f"{top}/c" if host.name == "server2" else f"{top}/robert/much/longer/miniconda3"


@pytest.fixture
def envsync(servers: Lab) -> Envsync:
    return configured(Envsync(servers.controller), servers)


def configured(command: Envsync, servers: Lab) -> Envsync:
    others = "".join(f"  {host.name}: {{prefix: {prefix_of(host)}}}\n" for host in servers.targets)
    own = servers.controller.prefix
    command.configure(f"prefix: {own}\nservers:\n  server1: {{}}\n{others}")
    return command


def environment(host: LabHost) -> Path:
    return host.path(f"{prefix_of(host)}/envs/myenv")


def runs(host: LabHost) -> None:
    top = f"{prefix_of(host)}/envs/myenv"
    assert host.run([f"{top}/bin/lab-cli"]).stdout == f"lab-cli {top}\n"
    assert host.run([f"{top}/bin/lab-where"]).stdout == f"{top}\n"
    assert host.run([f"{top}/bin/lab-native", "passwd", "root"]).stdout.startswith("root:")


@pytest.mark.parametrize(
    ("transport", "names"),
    [("stream", ["server2", "server3"]), ("rsync", ["server3"]), ("scp", ["server2"])],
)
def test_each_transport_brings_a_relocated_environment(
    servers: Lab,
    envsync: Envsync,
    transport: str,
    names: list[str],
    conda_template: Template,
    tmp_path: Path,
) -> None:
    ran = envsync.push(*names, "--transport", transport)
    assert {server["outcome"] for server in ran.servers} == {"pushed"}
    assert {server["transport"] for server in ran.servers} == {transport}
    assert len({server["revision"] for server in ran.servers}) == 1
    for host in (servers[name] for name in names):
        runs(host)
        conda_template.copy(tmp_path / host.name, prefix=Path(prefix_of(host)))
        wanted = contents(tree(tmp_path / host.name / "envs/myenv"))
        there = contents(tree(environment(host)))
        assert {path for path in wanted if there.get(path) != wanted[path]} == set()
        for name in ("myenv", ".envsync"):
            shutil.rmtree(environment(host).with_name(name))


def test_everything_else_knows_a_relocated_target(servers: Lab, envsync: Envsync) -> None:
    """In step, history, diff, verify, only the change, drift, rollback."""
    host = servers["server3"]
    pushed = envsync.push("server3").server
    assert pushed["outcome"] == "pushed"
    event = envsync.ok("history", "myenv", "server3").server["events"][0]
    assert event["source_revision"] == pushed["revision"] != event["revision"]
    command = [ENVSYNC, "history", "myenv", "server3"]
    told = servers.controller.run(command, env=envsync.environment).stdout
    assert f" {short(pushed['revision'])} " in told
    assert envsync.push("server3").server["outcome"] == "in-step"
    found = envsync.ok("diff", "myenv", "server3").result["difference"]
    assert (found["added"], found["removed"], found["changed"]) == (0, 0, 0)
    verified = envsync.ok("verify", "myenv", "server3").server["verified"]
    assert (verified["damaged"], verified["missing"], verified["unexpected"]) == ([], [], [])

    servers.controller.install_wheel("tiny-wheel", "1.0")
    second = envsync.push("server3").server
    assert 0 < second["plan"]["fetch_files"] < 12
    assert second["wire_bytes"] < 20_000
    (environment(host) / "bin/lab-where").write_bytes(b"#!/bin/sh\n")
    refused = envsync.push("server3", expect=DRIFT)
    assert "lab-text" in refused.said
    assert envsync.push("server3", "--overwrite").server["outcome"] == "pushed"
    runs(host)
    envsync.ok("rollback", "myenv", "server3", "--overwrite")


def test_a_source_elsewhere_and_another_name(servers: Lab, envsync: Envsync) -> None:
    """From a server whose tree was relocated itself, through this machine, and back here."""
    assert envsync.push("server2").server["outcome"] == "pushed"
    pushed = envsync.push("server3", "--from", "server2", "--as", "other").server
    assert pushed["outcome"] == "pushed"
    there = f"{prefix_of(servers['server3'])}/envs/other"
    assert servers["server3"].run([f"{there}/bin/lab-where"]).stdout == f"{there}\n"
    pulled = envsync.ok("pull", "myenv", "server2").server
    assert pulled["outcome"] == "adopted"  # the same, but never recorded here


def test_what_is_rewritten_after_it_was_sent_counts_once(servers: Lab) -> None:
    """A first push sends before it is known which files name the prefix."""
    controller, host = servers.controller, servers["server2"]
    envsync = configured(plant(controller), servers)
    known = controller.path(f"{controller.home()}/.cache/envsync")
    for path in (known, environment(host), environment(host).with_name(".envsync")):
        shutil.rmtree(path, ignore_errors=True)
    gate, stop = controller.path(HASHING_WAITS), Stop(host, "receiving")
    gate.touch()
    process = envsync.start("push", "myenv", "server2")
    stop.wait()
    gate.unlink()
    stop.go_on()
    pushed = finish(process).server
    assert "while the source was hashed" in pushed["transport_reason"]
    plan, totals = pushed["plan"], pushed["totals"]
    assert plan["fetch_files"] <= totals["files"] + pushed["compiled_left_out"]
    assert plan["fetch_bytes"] > totals["size_bytes"]  # those of both count
