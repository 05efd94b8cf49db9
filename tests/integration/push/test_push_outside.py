"""What leads out of the environment: told, or refused where the inventory says so."""

from __future__ import annotations

import pytest

from tests.integration.push.command import Envsync
from tests.integration.push.places import environment
from tests.integration.push.stamped import Stamped
from tests.lab.lab import Lab

TARGET = "server2"
PREFLIGHT = 8


@pytest.fixture
def envsync(fresh_lab: Lab) -> Envsync:
    """An environment with one link that leads out of it."""
    for host in fresh_lab.hosts.values():
        host.path(f"{host.prefix}/envs").mkdir()
        host.path(f"{host.prefix}/conda-meta").mkdir()
    controller = fresh_lab.controller
    Stamped(controller)
    (environment(controller) / "data").symlink_to("/srv/shared/data")
    return Envsync(controller)


def test_it_is_told(envsync: Envsync) -> None:
    (warning,) = envsync.push(TARGET).server["warnings"]
    assert warning == "data (symlink) leads to /srv/shared/data, which is not there"


def test_outside_fail_refuses(envsync: Envsync, fresh_lab: Lab) -> None:
    envsync.configure(
        f"prefix: {fresh_lab.controller.prefix}\nservers: {{server1: {{}}, server2: {{}}}}\n"
        "environments: {myenv: {outside: fail}}\n"
    )
    refused = envsync.push(TARGET, expect=PREFLIGHT)
    assert "/srv/shared/data" in refused.said
    assert not environment(fresh_lab[TARGET]).exists()
