"""Installers on the target while a push is under way: whatever they write is there, or told."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.conda import Template, cache_root
from tests.conda.environments import CHECKOUT
from tests.integration.push.command import Envsync, finish
from tests.integration.push.pip_process import NAME, can_import, pip_at_work
from tests.integration.push.places import environment, rewrite, site_packages, state, trees
from tests.integration.push.planted import Stop, plant
from tests.integration.push.stamped import Stamped
from tests.integration.push.tree_listing import assert_same, contents, tree
from tests.lab.lab import Lab, LabHost
from tests.lab.namespaces import EnteredProcess
from tests.support.processes import wait_until

TARGET = "server2"
PREFLIGHT, SOURCE_REFUSED, DRIFT, IN_USE = 8, 9, 11, 15


@pytest.fixture
def planted(conda_lab: Lab) -> Envsync:
    """The first version is on the target, and the source has another."""
    envsync = plant(conda_lab.controller)
    envsync.push(TARGET)
    change(conda_lab.controller, b"2")
    return envsync


@pytest.fixture
def installed(conda_lab: Lab, lab_template: Template) -> Envsync:
    """The same, and the target has the packages: conda can change the environment there."""
    conda_lab[TARGET].install_conda(lab_template)
    envsync = plant(conda_lab.controller)
    assert envsync.push(TARGET).server["outcome"] == "adopted"
    change(conda_lab.controller, b"2")
    return envsync


@pytest.fixture
def small(source: Stamped, fresh_lab: Lab) -> Envsync:
    """The same with a small environment, where it does not matter what it holds."""
    envsync = plant(fresh_lab.controller)
    envsync.push(TARGET)
    (environment(fresh_lab.controller) / "share/lab").mkdir(parents=True)
    change(fresh_lab.controller, b"2")
    return envsync


def change(host: LabHost, content: bytes) -> None:
    rewrite(environment(host) / "share/lab/version", content)


def start_until_publish(planted: Envsync, target: LabHost) -> tuple[EnteredProcess, Stop]:
    """A push of another version that has done all but the switch."""
    stop = Stop(target, "build.publish")
    process = planted.start("push", "myenv", TARGET)
    stop.wait()
    return process, stop


@pytest.mark.timeout(120)
def test_pip_on_the_target(conda_lab: Lab, planted: Envsync) -> None:
    """At work before the push; begun during it, with nothing written yet; half done."""
    target = conda_lab[TARGET]
    with pip_at_work(target):
        refused = planted.push(TARGET, expect=PREFLIGHT)
        assert "pip (process" in refused.error["message"]
        assert "when the installer has ended" in refused.error["hint"]
    assert can_import(target)
    assert NAME in planted.push(TARGET, expect=DRIFT).said
    assert planted.push(TARGET, "--overwrite").server["outcome"] == "pushed"
    assert any(list(place.glob(f"lib/python3.*/site-packages/{NAME}")) for place in trees(target))

    change(conda_lab.controller, b"3")
    before = tree(environment(target))
    process, stop = start_until_publish(planted, target)
    with pip_at_work(target) as pip:
        stop.go_on()
        ran = finish(process)
        assert ran.exit_code == DRIFT, ran.document
        pid = pip.inner_pid()
        assert pid is not None
        assert f"pip (process {target.pid_on_host(pid)}) is changing it" in ran.error["message"]
        assert "when it has ended there" in ran.error["hint"]
        assert tree(environment(target)) == before
    assert can_import(target)
    planted.push(TARGET, "--overwrite")

    change(conda_lab.controller, b"4")
    process, stop = start_until_publish(planted, target)
    with pip_at_work(target, half_done=True):
        stop.go_on()
        ran = finish(process)
        assert ran.exit_code == DRIFT, ran.document
        assert "changed there during the push" in ran.error["message"]
        assert ran.error["details"]
    assert can_import(target)


def test_pip_on_the_source(conda_lab: Lab) -> None:
    """Called from within the environment, not activated; and through a link to the prefix."""
    controller = conda_lab.controller
    top = f"{controller.prefix}/envs/myenv"
    controller.path("/run/lab/miniconda").symlink_to(controller.prefix)
    for python, cwd in (("bin/python", top), ("/run/lab/miniconda/envs/myenv/bin/python", "/")):
        with pip_at_work(controller, python=python, cwd=cwd):
            refused = Envsync(controller).push(TARGET, expect=SOURCE_REFUSED)
            assert "pip (process" in refused.error["message"]
    assert not environment(conda_lab[TARGET]).exists()


def test_a_transaction_in_the_moment_of_the_switch(conda_lab: Lab, installed: Envsync) -> None:
    """Between the last look and the exchange: found in what was switched out, and undone."""
    target = conda_lab[TARGET]
    stop = Stop(target, "switch")
    process = installed.start("push", "myenv", TARGET)
    stop.wait()
    try:
        target.change_package("lab-variant ==2.0")
    finally:
        stop.go_on()
    ran = finish(process)
    assert ran.exit_code == DRIFT, ran.document
    assert "during the switch, which was undone" in ran.error["message"]
    assert "installer" not in ran.error["hint"]  # it has ended
    assert "envsync diff myenv server2 --published" in ran.error["hint"]
    assert "envsync push myenv server2 --overwrite" in ran.error["hint"]
    assert any("lab-variant" in line for line in ran.error["details"])
    assert not (state(target) / "intent.json").exists()
    variant = site_packages(target) / "lab_variant"
    assert (variant / "only_in_2.py").exists()
    assert not (variant / "only_in_1.py").exists()
    assert "lab-variant" in installed.push(TARGET, expect=DRIFT).said


def test_a_transaction_that_goes_on_after_the_switch(conda_lab: Lab, installed: Envsync) -> None:
    """Of an installer that nobody knows by its name: it works on the new version by path."""
    target = conda_lab[TARGET]
    old = tree(environment(target))
    argv = [sys.executable, "-m", "tests.conda.make", target.prefix, "--env", "myenv"]
    argv += ["--change", "lab-variant ==2.0"]
    cache = {"XDG_CACHE_HOME": str(cache_root().parent)}
    transaction = target.popen(argv, env=cache, cwd=str(CHECKOUT))
    wait_until(lambda: target.processes("tests.conda.make"), "it has begun")
    transaction.freeze()
    try:
        assert installed.push(TARGET).server["outcome"] == "pushed"
    finally:
        transaction.thaw()
        _, err = transaction.communicate(timeout=40)
    assert transaction.returncode == 0, err
    assert "lab-variant" in installed.push(TARGET, expect=DRIFT).said
    installed.ok("rollback", "myenv", TARGET, "--overwrite")
    assert_same(old, tree(environment(target)))


def test_a_file_open_at_the_switch_is_written_to_after_it(fresh_lab: Lab, small: Envsync) -> None:
    """Its bytes go to the old version, which is no longer what was published, and stays."""
    controller, target = fresh_lab.controller, fresh_lab[TARGET]
    history = f"{target.prefix}/envs/myenv/conda-meta/history"
    argv = ["sh", "-c", f"exec 3>>{history}; echo open; read line; echo '# late' >&3"]
    with target.popen(argv, stdin=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"open\n"
        pushed = small.push(TARGET).server
        assert [use["command"][:5] for use in pushed["in_use"]] == ["sh -c"]
        new = contents(tree(environment(target)))
        writer.communicate(b"\n", timeout=20)
    assert contents(tree(environment(target))) == new
    refused = small.run("rollback", "myenv", TARGET)
    assert refused.exit_code == PREFLIGHT, refused.document
    assert "generation 1 was changed since it was published" in refused.error["message"]
    for content in (b"3", b"4"):
        change(controller, content)
        small.push(TARGET)
        kept = [(place / "conda-meta/history").read_text() for place in trees(target)]
        assert any("# late" in text for text in kept)


def test_conda_writes_into_its_history_and_one_rolls_back(fresh_lab: Lab, small: Envsync) -> None:
    """In place, as conda does: the old bytes come back exactly, and the new ones are kept."""
    target = fresh_lab[TARGET]
    old = tree(environment(target))
    small.push(TARGET)
    with (environment(target) / "conda-meta/history").open("a") as file:
        file.write("# in place\n")
    assert small.run("rollback", "myenv", TARGET).exit_code == DRIFT
    small.ok("rollback", "myenv", TARGET, "--overwrite")
    assert_same(old, tree(environment(target)))
    assert any(
        "# in place" in (place / "conda-meta/history").read_text() for place in trees(target)
    )


def test_in_use_wait_and_fail(fresh_lab: Lab, small: Envsync) -> None:
    """By a process that only has a file open."""
    controller, target = fresh_lab.controller, fresh_lab[TARGET]
    text = f"prefix: {controller.prefix}\nservers: {{server1: {{}}, server2: {{}}}}\n"
    argv = ["sh", "-c", f"exec 3<{target.prefix}/envs/myenv/stamps/000; echo open; read line"]
    with target.popen(argv, stdin=subprocess.PIPE) as job:
        assert job.stdout is not None
        assert job.stdout.readline() == b"open\n"
        small.configure(f"{text}environments: {{myenv: {{in_use: fail}}}}\n")
        refused = small.push(TARGET, expect=IN_USE)
        assert "sh -c exec 3" in refused.said
        small.configure(f"{text}environments: {{myenv: {{in_use: wait}}}}\n")
        asked = Stop(target, "target.using")
        process = small.start("push", "myenv", TARGET)
        asked.wait()
        asked_again = Stop(target, "target.using")
        asked.go_on()
        asked_again.wait()
        assert not (environment(target) / "share/lab/version").exists()
        job.communicate(b"\n", timeout=20)
        asked_again.go_on()
        assert finish(process).exit_code == 0
    assert (environment(target) / "share/lab/version").read_bytes() == b"2"
