"""A clean stop within ten seconds, whatever the daemon and those that it talks to are at."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.integration.daemon.running import INVENTORY, Daemon, inventory
from tests.integration.push.places import environment
from tests.integration.push.stamped import Stamped, version_at
from tests.lab.lab import Lab
from tests.lab.namespaces import EnteredProcess
from tests.support.processes import wait_until

_STOP_SECONDS = 10.0

# As `conda install` looks to those who read /proc.
_INSTALLER = "import os, sys; os.execv(sys.executable, ['conda', '-c', sys.argv[1], *sys.argv[2:]])"
_FOR_LONG = "import time; time.sleep(120)"


class Scene:
    """One version is on server2, and the daemon runs; each state is entered from there."""

    def __init__(self, lab: Lab) -> None:
        self.controller, self.target = lab.controller, lab["server2"]
        self.source = Stamped.in_lab(lab, file_bytes=4_000)
        self.daemon = Daemon(self.controller, inventory(self.controller.prefix))
        self._installer: EnteredProcess | None = None
        self.daemon.start()
        self.daemon.wait_state("server2", "in-step")

    def at_rest(self) -> None:
        pass

    def settling(self) -> None:
        """A child stands ready for the push that is to come."""
        self._settle_for("10s")
        self.source.change()
        wait_until(self._has_child, "a child is ready", timeout_seconds=30)

    def behind_an_installer(self) -> None:
        what = ["install", "--prefix", f"{self.controller.prefix}/envs/myenv", "x"]
        argv = [sys.executable, "-c", _INSTALLER, _FOR_LONG, *what]
        self._installer = self.controller.popen(
            argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self.source.change()
        self.daemon.wait_log("waiting for conda")

    def scanning(self) -> None:
        """With a child that hears nothing any more."""
        self.daemon.stop()
        self.daemon.start()
        self._freeze_child()

    def pushing_to_a_silent_server(self) -> None:
        self.target.limit("1mbit")
        self.source.change()
        self.daemon.wait_state("server2", "pushing")
        self.target.cut()

    def pushing_by_a_hung_child(self) -> None:
        self.pushing_to_a_silent_server()
        self._freeze_child()

    def retrying(self) -> None:
        self.target.stop_sshd()
        self.source.change()
        self.daemon.wait_state("server2", "retrying")

    def halted(self) -> None:
        (environment(self.target) / "by-hand").write_text("x")
        self.source.change()
        self.daemon.wait_state("server2", "halted")

    def refusing_its_inventory(self) -> None:
        self.controller.path(INVENTORY).write_text("nonsense: [")
        self.daemon.wait_log("the inventory is refused")

    def _settle_for(self, settle: str) -> None:
        text = inventory(self.controller.prefix).replace("settle: 300ms", f"settle: {settle}")
        self.controller.path(INVENTORY).write_text(text)
        self.daemon.wait_log("the inventory was read")

    def _has_child(self) -> bool:
        return bool(self.daemon.children())

    def _freeze_child(self) -> None:
        def freeze() -> bool:
            found = self.daemon.children()
            for pid in found:
                os.kill(pid, signal.SIGSTOP)
            return bool(found)

        wait_until(freeze, "a child is at work", timeout_seconds=30)

    def close(self) -> None:
        if self._installer is not None:
            self._installer.kill()
            self._installer.wait(10)
        self.target.restore()
        self.target.unlimit()


@pytest.mark.timeout(90)
@pytest.mark.parametrize(
    "enter",
    [
        Scene.at_rest,
        Scene.settling,
        Scene.behind_an_installer,
        Scene.scanning,
        Scene.pushing_to_a_silent_server,
        Scene.pushing_by_a_hung_child,
        Scene.retrying,
        Scene.halted,
        Scene.refusing_its_inventory,
    ],
    ids=lambda enter: enter.__name__.replace("_", " "),
)
def test_a_clean_stop(fresh_lab: Lab, enter: Callable[[Scene], None]) -> None:
    scene = Scene(fresh_lab)
    try:
        enter(scene)
        assert scene.daemon.stop(timeout_seconds=_STOP_SECONDS) == 0
        assert "stopping" in scene.daemon.log()
        assert "Traceback" not in scene.daemon.log()
        assert version_at(scene.target) == 1
    finally:
        scene.close()
