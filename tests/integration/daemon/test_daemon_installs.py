"""Real installs into a real environment: each is pushed once, after it has come to its end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.daemon.running import Daemon, published
from tests.integration.push.pip_process import start_pip
from tests.lab.lab import Lab

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def daemon(conda_lab: Lab) -> Iterator[Daemon]:
    with Daemon(conda_lab.controller) as started:
        yield started


def test_a_day_with_the_daemon(conda_lab: Lab, daemon: Daemon) -> None:
    targets = conda_lab.targets
    for host in targets:
        daemon.wait_state(host.name, "in-step")
    assert [published(host) for host in targets] == [1, 1]
    pip = start_pip(conda_lab.controller)
    _, err = pip.communicate(timeout=60)
    assert pip.returncode == 0, err
    first = daemon.source()["revision"]
    daemon.wait_log("published", times=4)
    assert daemon.source()["revision"] != first
    assert [published(host) for host in targets] == [2, 2]
    assert daemon.stop() == 0
