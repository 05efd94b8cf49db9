"""The fixture of the machine, for the tests that import it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conda import ENVIRONMENT
from tests.lab.lab import Lab
from tests.systemd import requirements
from tests.systemd.machine import USER, Machine


@pytest.fixture(scope="module")
def machine(lab: Lab) -> Iterator[Machine]:
    """systemd on server1, alice's prefix there and on the targets, and a tiny `myenv` here."""
    demand_systemd()
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


def demand_systemd() -> None:
    """Fail where none can be booted and one has to; skip, saying why, where it need not."""
    missing = requirements.missing()
    if missing and requirements.required():
        pytest.fail(f"systemd is required and cannot be booted: {missing}", pytrace=False)
    if missing:
        pytest.skip(f"no systemd: {missing}")
