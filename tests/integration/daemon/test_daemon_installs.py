"""Real installs into a real environment: each is pushed once, after it has come to its end."""

from __future__ import annotations

import signal

import pytest

from tests.integration.daemon.running import Daemon, inventory, published
from tests.integration.push.pip_process import NAME, can_import, start_pip
from tests.integration.push.places import environment, site_packages
from tests.integration.push.tree_listing import assert_same, tree
from tests.lab.lab import Lab, LabHost
from tests.lab.namespaces import wait_until

TARGET = "server2"


def pip(host: LabHost, *arguments: str) -> None:
    process = start_pip(host, *arguments)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err


@pytest.mark.timeout(120)
def test_installs_and_uninstalls(conda_lab: Lab) -> None:
    """pip, then as conda does it, pip again; and an editor's save, which nothing tells of."""
    controller, target = conda_lab.controller, conda_lab[TARGET]
    text = inventory(controller.prefix, push_to="[server2]")
    with Daemon(controller, text) as daemon:
        daemon.wait_state(TARGET, "in-step")
        before = daemon.source()["revision"]

        def after(count: int) -> None:
            """One publish for each install, and what stands there is the same."""
            daemon.wait_log(" published ", times=count)
            daemon.wait_state(TARGET, "in-step", daemon.source()["revision"])
            assert published(target) == count
            assert_same(tree(environment(controller)), tree(environment(target)))

        assert published(target) == 1
        pip(controller)
        after(2)
        assert can_import(target)
        controller.change_package("lab-variant ==2.0")
        after(3)
        pip(controller, "uninstall", "--yes", NAME)
        after(4)
        assert daemon.source()["revision"] != before  # the other lab-variant

        module = next(site_packages(controller).glob("*/*.py"))
        daemon.command.configure(inventory(controller.prefix, push_to="[server2]", rescan="2s"))
        daemon.wait_log("the inventory was read")
        saved = module.with_name("saved")
        saved.write_text("# as an editor saves\n")
        saved.rename(module)
        after(5)
        assert daemon.stop() == 0
        assert "Traceback" not in daemon.log()


@pytest.mark.timeout(120)
def test_an_install_that_was_interrupted(conda_lab: Lab) -> None:
    """Killed in the middle: told, and not pushed; installed once more: pushed."""
    controller, target = conda_lab.controller, conda_lab[TARGET]
    with Daemon(controller, inventory(controller.prefix, push_to="[server2]")) as daemon:
        daemon.wait_state(TARGET, "in-step")
        process = start_pip(controller)
        package = site_packages(controller) / NAME
        wait_until(package.exists, "pip has begun to write", timeout_seconds=30)
        process.freeze()
        try:
            daemon.wait_log("waiting for pip")
        finally:
            process.send_signal(signal.SIGKILL)
            process.thaw()
            process.communicate(timeout=20)
        daemon.wait_log("an installation is not finished")
        source = daemon.source()
        assert source["error"]["code"] == "unfinished"
        assert NAME in source["error"]["message"]
        assert published(target) == 1
        pip(controller, "install", "--force-reinstall")
        daemon.wait_log(" published ", times=2)
        assert can_import(target)
        assert daemon.source()["error"] is None
        assert published(target) == 2
