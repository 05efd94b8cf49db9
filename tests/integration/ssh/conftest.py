"""An sshd for a test, and links to it that are closed afterwards."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from envsync.ssh.fabric_link import FabricLink
from envsync.ssh.session import Address, Timeouts
from tests.lab.loopback_sshd import LoopbackSshd
from tests.support.links import open_fabric_link


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[LoopbackSshd]:
    with LoopbackSshd(tmp_path) as sshd:
        yield sshd


@pytest.fixture
def connect() -> Iterator[Callable[..., FabricLink]]:
    """A function that opens a link to an sshd: `connect(sshd)`, or with other parameters."""
    links: list[FabricLink] = []

    def open_it(
        sshd: LoopbackSshd,
        address: Address | None = None,
        timeouts: Timeouts | None = None,
        environ: dict[str, str] | None = None,
    ) -> FabricLink:
        links.append(
            open_fabric_link(address or sshd.address, timeouts or Timeouts(),
                      environ=sshd.environ if environ is None else environ)
        )  # fmt: skip
        return links[-1]

    yield open_it
    for link in links:
        link.close()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    ssh = tmp_path / ".ssh"
    ssh.mkdir()
    subprocess.run(["ssh-keygen", "-qt", "ed25519", "-N", "", "-f", ssh / "id_ed25519"], check=True)
    return tmp_path
