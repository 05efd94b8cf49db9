"""Real installs into a real environment: each is pushed once, after it has come to its end."""

from __future__ import annotations

import shutil
import signal

import pytest

from tests.integration.daemon.running import Daemon, inventory, published, wait_spare
from tests.integration.push.pip_process import (
    HALF_DONE,
    NAME,
    can_import,
    start_pip,
    wait_stopped,
)
from tests.integration.push.places import environment, site_packages
from tests.integration.push.tree_listing import assert_same, tree
from tests.lab.lab import Lab, LabHost
from tests.support.processes import wait_until

TARGET = "server2"


def pip(host: LabHost, *arguments: str) -> None:
    process = start_pip(host, *arguments)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err


@pytest.mark.timeout(180)
def test_each_install_is_pushed_once(conda_lab: Lab) -> None:
    """pip, as conda does it, pip again; one that is killed; a save, which nothing tells of."""
    controller, target = conda_lab.controller, conda_lab[TARGET]
    text = inventory(controller.prefix, push_to="[server2]")
    with Daemon(controller, text) as daemon:
        daemon.wait_state(TARGET, "in-step")

        def after(count: int, by_hand: int = 0) -> None:
            """One publish for each install, and what stands there is the same."""
            daemon.wait_log(" published ", times=count)
            daemon.wait_state(TARGET, "in-step", daemon.source()["revision"])
            assert published(target) == count + by_hand
            assert_same(tree(environment(controller)), tree(environment(target)))

        assert published(target) == 1
        spare = wait_spare(target)
        pip(controller)
        after(2)
        assert environment(target).stat().st_ino == spare, "only what changed was written anew"
        assert can_import(target)
        controller.change_package("lab-variant ==2.0")
        after(3)
        pip(controller, "uninstall", "--yes")
        after(4)

        _kill_pip(controller, daemon)
        daemon.wait_log("an installation is not finished")
        source = daemon.source()
        assert source["error"]["code"] == "unfinished"
        assert NAME in source["error"]["message"]
        assert published(target) == 4
        # Whoever pushes by hand all the same is told.
        warning = daemon.command.push(TARGET, "--dry-run").server["warnings"][0]
        assert warning.startswith(source["error"]["message"])
        assert "but this push does" in warning
        # The daemon knows what that has left there, although it does not push itself.
        half = daemon.command.push(TARGET).server["revision"]
        daemon.wait_state(TARGET, "in-step", half)
        wait_until(lambda: daemon.source()["revision"] == half, "the source is scanned")
        pip(controller, "install", "--force-reinstall")
        after(5, by_hand=1)
        assert daemon.source()["error"] is None
        warnings = daemon.command.push(TARGET, "--dry-run").server["warnings"]
        assert not any("the daemon does not push it" in warning for warning in warnings)

        daemon.command.configure(inventory(controller.prefix, push_to="[server2]", rescan="500ms"))
        daemon.wait_log("the inventory was read")
        module = site_packages(controller) / NAME / "module_1.py"
        saved = module.with_name("saved")
        saved.write_text("# as an editor saves\n")
        saved.rename(module)
        after(6, by_hand=1)
        assert daemon.stop() == 0
        assert "Traceback" not in daemon.log()


@pytest.mark.timeout(180)
def test_an_install_that_does_not_survive_its_daemon(conda_lab: Lab) -> None:
    """Both are killed at once; the daemon is stopped before; it begins when there is none."""
    controller, target = conda_lab.controller, conda_lab[TARGET]
    daemon = Daemon(controller, inventory(controller.prefix, push_to="[server2]"))
    for number, end in enumerate((daemon.kill, daemon.stop, None), start=1):
        daemon.start()
        daemon.wait_state(TARGET, "in-step")
        if end is None:
            daemon.stop()
        process = start_pip(controller, stops=HALF_DONE)
        wait_stopped(process)
        if end is not None:
            daemon.wait_log("waiting for pip", times=number)
            end()
        process.send_signal(signal.SIGKILL)
        process.thaw()
        process.communicate(timeout=20)
        daemon.start()
        daemon.wait_log("an installation is not finished", times=number)
        assert published(target) == 1
        shutil.rmtree(site_packages(controller) / NAME)
        wait_until(lambda: daemon.source()["error"] is None, "it is whole", timeout_seconds=20)
        daemon.wait_state(TARGET, "in-step")
        daemon.stop()
    assert published(target) == 1


@pytest.mark.timeout(120)
def test_pip_that_is_killed_before_an_earlier_change_has_settled_is_not_pushed(
    conda_lab: Lab,
) -> None:
    controller, target = conda_lab.controller, conda_lab[TARGET]
    text = inventory(controller.prefix, push_to="[server2]", settle="5s")
    with Daemon(controller, text) as daemon:
        daemon.wait_state(TARGET, "in-step")
        (environment(controller) / "bin/tool").write_text("#!/bin/sh\n")
        wait_until(lambda: daemon.source()["activity"] == "settling", "it settles")
        process = start_pip(controller, stops=HALF_DONE)
        wait_stopped(process)
        process.send_signal(signal.SIGKILL)
        process.thaw()
        process.communicate(timeout=20)
        daemon.wait_log("an installation is not finished")
        assert "waiting for pip" not in daemon.log()
        assert published(target) == 1


def _kill_pip(controller: LabHost, daemon: Daemon) -> None:
    """In the middle of its files, once the daemon has seen it."""
    seen = daemon.log().count("waiting for pip")
    process = start_pip(controller, stops=HALF_DONE)
    try:
        wait_stopped(process)
        daemon.wait_log("waiting for pip", times=seen + 1)
    finally:
        process.send_signal(signal.SIGKILL)
        process.thaw()
        process.communicate(timeout=20)
