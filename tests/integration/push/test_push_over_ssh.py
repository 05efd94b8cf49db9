"""Whole pushes over the system's ssh, to a server whose host key only an authority vouches for."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.push.command import Envsync, finish
from tests.integration.push.places import state, trees
from tests.integration.push.planted import Stop, plant
from tests.integration.push.stamped import Stamped, version_at, wait_quiet
from tests.lab.lab import Lab, LabHost
from tests.support.processes import wait_until

SERVER = "server2"
_KEY = "/run/lab/host_key"


@dataclass(frozen=True, slots=True)
class Scene:
    command: Envsync
    source: Stamped
    controller: LabHost
    target: LabHost

    def our_ssh(self) -> list[int]:
        """The ssh processes that hold connections, and the shells that end them."""
        return self.controller.processes("-N -M -S")

    def logins(self) -> int:
        return self.target.sshd_log().count("Accepted publickey")


@pytest.fixture(scope="module")
def scene(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    lab.reset()
    certify(lab, tmp_path_factory.mktemp("authority"))
    scene = Scene(plant(lab.controller), Stamped.in_lab(lab), lab.controller, lab[SERVER])
    first = scene.command.push(SERVER).server
    assert (first["outcome"], first["connection"]) == ("pushed", "ssh")
    assert "@cert-authority" in first["connection_reason"]
    yield scene
    lab.reset()


def certify(lab: Lab, directory: Path) -> None:
    """An authority signs the key of the target; nobody knows that key by itself."""
    authority, key = directory / "authority", directory / "host_key"
    keygen = ["ssh-keygen", "-q"]
    subprocess.run([*keygen, "-t", "ed25519", "-N", "", "-f", authority], check=True)
    target = lab[SERVER]
    public = target.run(["ssh-keygen", "-y", "-f", _KEY]).stdout
    key.with_suffix(".pub").write_text(public)
    names = f"{SERVER},{target.address}"
    sign = ["-s", str(authority), "-I", "lab", "-h", "-n", names, f"{key}.pub"]
    subprocess.run([*keygen, *sign], check=True, capture_output=True)
    target.write_file(f"{_KEY}-cert.pub", Path(f"{key}-cert.pub").read_text())
    target.start_sshd(f"HostCertificate {_KEY}-cert.pub\n")
    line = f"@cert-authority {names} {Path(f'{authority}.pub').read_text()}"
    lab.controller.path(f"{lab.controller.home()}/.ssh/known_hosts").write_text(line)


def test_a_push_and_nothing_to_do(scene: Scene) -> None:
    new = scene.source.change()
    report = scene.command.push(SERVER).server
    assert (report["outcome"], report["connection"]) == ("pushed", "ssh")
    assert version_at(scene.target) == new
    assert scene.command.push(SERVER).server["outcome"] == "in-step"
    assert not scene.our_ssh()


def test_rsync_shares_the_connection(scene: Scene) -> None:
    new = scene.source.change()
    before = scene.logins()
    report = scene.command.push(SERVER, "--transport", "rsync").server
    assert (report["outcome"], report["transport"]) == ("pushed", "rsync")
    assert version_at(scene.target) == new
    assert scene.logins() == before + 1


def test_scp_works_over_the_systems_ssh(scene: Scene) -> None:
    new = scene.source.change()
    assert scene.command.push(SERVER, "--transport", "scp").server["outcome"] == "pushed"
    assert version_at(scene.target) == new


def test_ssh_is_killed_in_the_middle(scene: Scene) -> None:
    before = version_at(scene.target)
    scene.source.change()
    stop = Stop(scene.target, "receiving")
    process = scene.command.start("push", "myenv", SERVER)
    stop.wait()
    [ssh] = [pid for pid in scene.our_ssh() if "/ssh " in scene.controller.command_line(pid)[:20]]
    scene.controller.kill(ssh)
    ran = finish(process)
    assert ran.exit_code == 6, ran.document
    assert ran.error["server"] == SERVER
    stop.go_on()
    assert_left_and_resumed(scene, before)


def test_ctrl_c_in_the_middle(scene: Scene) -> None:
    before = version_at(scene.target)
    scene.source.change()
    stop = Stop(scene.target, "receiving")
    process = scene.command.start("push", "myenv", SERVER)
    stop.wait()
    process.send_signal(signal.SIGINT)
    assert finish(process).exit_code == 130
    stop.go_on()
    assert_left_and_resumed(scene, before)


def assert_left_and_resumed(scene: Scene, before: int | None) -> None:
    wait_quiet(scene.target)
    wait_until(lambda: not scene.our_ssh(), "no ssh is left")
    assert version_at(scene.target) == before
    after = scene.command.push(SERVER).server
    assert after["outcome"] == "pushed"
    assert after["plan"]["origin"] == "resumed"
    assert 0 < after["plan"]["fetch_bytes"] < scene.source.size_bytes
    assert version_at(scene.target) == scene.source.version
    assert len(trees(scene.target)) <= 1
    assert not (state(scene.target) / "intent.json").exists()
