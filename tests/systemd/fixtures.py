"""The fixture of a machine with systemd, for tests that import it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conda import ENVIRONMENT
from tests.lab.lab import Lab
from tests.support.prerequisites import demand
from tests.systemd import requirements
from tests.systemd.machine import USER, Machine


@pytest.fixture(scope="module")
def machine(lab: Lab) -> Iterator[Machine]:
    """A machine with systemd on server1, with alice's prefix on all hosts and a tiny `myenv`."""
    demand("systemd", requirements.missing())
    lab.reset()
    for host in lab.hosts.values():
        for directory in ("conda-meta", "envs"):
            host.path(f"{host.prefix}/{directory}").mkdir()
    environment = lab.controller.path(f"{lab.controller.prefix}/envs/{ENVIRONMENT}")
    for directory in ("conda-meta", "bin"):
        (environment / directory).mkdir(parents=True)
    (environment / "conda-meta/history").write_text("==> 2026-01-01 00:00:00 <==\n")
    for host in lab.hosts.values():
        host.namespaces.set_up("chown", "-R", f"{USER}:", host.prefix)
    with Machine(lab.controller) as booted:
        yield booted
