"""The fixture of the machine, for the tests that import it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conda import Template
from tests.lab.lab import Lab
from tests.systemd import requirements
from tests.systemd.machine import Machine


@pytest.fixture(scope="module")
def machine(lab: Lab, lab_template: Template) -> Iterator[Machine]:
    """systemd on server1, with alice's conda there and on the targets, and `myenv` here."""
    demand_systemd()
    lab.reset()
    for host in lab.hosts.values():
        host.install_conda(lab_template, environments=host is lab.controller)
        host.namespaces.set_up("chown", "-R", "alice:", host.prefix)
    with Machine(lab.controller) as booted:
        yield booted


def demand_systemd() -> None:
    """Fail where none can be booted and one has to; skip, saying why, where it need not."""
    missing = requirements.missing()
    if missing and requirements.required():
        pytest.fail(f"systemd is required and cannot be booted: {missing}", pytrace=False)
    if missing:
        pytest.skip(f"no systemd: {missing}")
