"""A laptop that is closed in the middle of its push: it holds nobody up, and harms nothing."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import pytest

from tests.integration.push.command import Envsync, Ran, finish
from tests.integration.push.places import environment, staged_bytes, state, trees
from tests.integration.push.planted import Stop, plant
from tests.integration.push.stamped import Stamped, version_at, write_version
from tests.lab.fixtures import demand_lab
from tests.lab.lab import Lab, LabHost
from tests.lab.namespaces import EnteredProcess
from tests.support.processes import wait_until

pytestmark = pytest.mark.timeout(120)

SILENCE_SECONDS = 5.0
TRANSPORTS = ("stream", "rsync", "scp")
LOST, TRANSFER_FAILED, NOT_FAST_FORWARD = 6, 17, 12
OF_ANOTHER_HOST = 1000


@dataclass(frozen=True, slots=True)
class Scene:
    """`laptop` will be frozen, `other` has a version of its own; the targets are both's."""

    lab: Lab
    source: Stamped
    laptop: Envsync
    other: Envsync
    targets: list[LabHost]


@pytest.fixture
def scene() -> Iterator[Scene]:
    demand_lab()
    with Lab.start([f"server{number}" for number in range(1, len(TRANSPORTS) + 4)]) as lab:
        other, *targets = lab.targets
        # Large, for no transfer to be over while the others get as far as they have to.
        source = Stamped.in_lab(lab, file_bytes=72_000)
        laptop = plant(lab.controller, silence_seconds=SILENCE_SECONDS)
        beside = plant(other, silence_seconds=SILENCE_SECONDS)
        yield Scene(lab, source, laptop, beside, targets)


@contextlib.contextmanager
def frozen(host: LabHost, processes: Collection[EnteredProcess]) -> Iterator[None]:
    """Everything on the laptop stands still: the commands, their rsync, their ssh."""
    for process in processes:
        process.freeze()
    _signal_helpers(host, signal.SIGSTOP)
    try:
        yield
    finally:
        _signal_helpers(host, signal.SIGCONT)
        for process in processes:
            process.thaw()


def _signal_helpers(host: LabHost, sig: int) -> None:
    for pid in host.processes(r"rsync|^\S*ssh "):
        with contextlib.suppress(ProcessLookupError):
            host.kill(pid, sig)


def push_until_done(command: Envsync, names: list[str]) -> None:
    """Another push of the same environment, tried until the agents of the frozen one give up."""

    def is_done() -> bool:
        ran = command.run("push", "myenv", *names)
        codes = {server["error"]["code"] for server in ran.servers if server["error"]}
        assert codes <= {"locked"}, ran.document
        return ran.exit_code == 0

    # A try takes seconds, and counts as one.
    wait_until(is_done, "nothing is locked any more", timeout_seconds=4 * SILENCE_SECONDS)


def test_a_client_is_frozen(scene: Scene) -> None:
    """In a transfer by each transport, and in the moment of the switch."""
    lab, source = scene.lab, scene.source
    names = [target.name for target in scene.targets]
    scene.laptop.push(scene.other.host.name, *names)
    source.change()
    *receiving, switching = scene.targets
    staged = {target.name: staged_bytes(target) for target in receiving}
    running = {}
    for target, transport in zip(receiving, TRANSPORTS, strict=True):
        target.limit("3mbit")
        arguments = ["push", "myenv", target.name, "--transport", transport]
        running[target.name] = scene.laptop.start(*arguments)
    wait_until(
        lambda: all(staged_bytes(host) > staged[host.name] + 300_000 for host in receiving),
        "bytes arrive everywhere",
        timeout_seconds=30,
    )
    stop = Stop(switching, "record")
    running[switching.name] = scene.laptop.start("push", "myenv", switching.name)
    stop.wait()
    with frozen(lab.controller, running.values()):
        stop.go_on()
        for target in receiving:
            target.unlimit()
        write_version(environment(scene.other.host), OF_ANOTHER_HOST)
        push_until_done(scene.other, names[:-1])
        # This one holds what the laptop published, which is another source's.
        refused = scene.other.run("push", "myenv", switching.name)
        assert refused.exit_code == NOT_FAST_FORWARD, refused.document
        scene.other.ok("push", "myenv", switching.name, "--overwrite")
    thawed = {name: finish(process) for name, process in running.items()}
    assert_told(thawed, switching)
    assert_unharmed(scene)


def assert_told(thawed: dict[str, Ran], switching: LabHost) -> None:
    """The truth: lost, but for the one that was published, and has been replaced since."""
    published = thawed.pop(switching.name)
    assert published.exit_code == 0, published.document
    assert published.server["outcome"] == "pushed"
    assert any("has been replaced since by" in told for told in published.server["warnings"])
    for ran in thawed.values():
        assert ran.exit_code in (LOST, TRANSFER_FAILED), ran.document
        assert "run the same command again" in ran.said


def assert_unharmed(scene: Scene) -> None:
    """The version of the other host stands everywhere, whole, as do those kept."""
    for target in scene.targets:
        assert version_at(target) == OF_ANOTHER_HOST
        scene.other.ok("verify", "myenv", target.name)
        assert not (state(target) / "intent.json").exists()
        assert len(trees(target)) <= 2
    again = scene.laptop.run("push", "myenv", *[target.name for target in scene.targets])
    codes = {server["error"]["code"] for server in again.servers}
    assert codes == {"not-fast-forward"}, again.document
