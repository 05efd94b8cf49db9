"""fabric's link, held to the contract: straight, and through a jump host."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from envsync.errors import ConnectionLost
from envsync.ssh.fabric_link import FabricLink
from envsync.ssh.session import Address, Link, Timeouts
from tests.integration.ssh.session_contract import (
    LIMIT_SECONDS,
    InBackground,
    Opener,
    SessionContract,
    UploadContract,
    sh,
)
from tests.lab.loopback_sshd import LoopbackSshd
from tests.support.links import open_fabric_link


class TestFabricSession(SessionContract):
    @pytest.fixture
    def opener(self, sshd: LoopbackSshd) -> Opener:
        return lambda timeouts: open_fabric_link(sshd.address, timeouts, environ=sshd.environ)

    @pytest.fixture
    def cut(self, sshd: LoopbackSshd) -> Callable[[], object]:
        return sshd.cut


class TestFabricSessionThroughJump(SessionContract):
    @pytest.fixture
    def bastion(self, tmp_path: Path) -> Iterator[LoopbackSshd]:
        with LoopbackSshd(tmp_path, name="bastion") as bastion:
            yield bastion

    @pytest.fixture
    def opener(self, tmp_path: Path, bastion: LoopbackSshd) -> Iterator[Opener]:
        with LoopbackSshd(tmp_path, name="inner", home=bastion.home) as inner:
            address = Address("inner", "inner", jump="bastion")
            yield lambda timeouts: open_fabric_link(address, timeouts, environ=inner.environ)

    @pytest.fixture
    def cut(self, bastion: LoopbackSshd) -> Callable[[], object]:
        return bastion.cut


class TestFabricUpload(UploadContract):
    @pytest.fixture
    def open_link(self, connect: Callable[..., FabricLink]) -> Callable[[LoopbackSshd], Link]:
        return connect


class TestFrozenServer:
    """sshd is suspended: nothing arrives, nothing is refused."""

    @pytest.fixture
    def frozen(self, sshd: LoopbackSshd) -> Iterator[Callable[[], None]]:
        stopped: list[int] = []

        def freeze() -> None:
            for pid in sshd.session_pids():
                os.kill(pid, signal.SIGSTOP)
                stopped.append(pid)

        yield freeze
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)

    def test_close_unblocks_a_write(
        self, sshd: LoopbackSshd, connect: Callable[..., FabricLink], frozen: Callable[[], None]
    ) -> None:
        session = connect(sshd).run(sh("cat >/dev/null"))
        frozen()
        writer = InBackground(lambda: session.write(bytes(64 << 20))).once_blocked()
        began = time.monotonic()
        session.close()
        writer.join()
        assert time.monotonic() - began < LIMIT_SECONDS
        assert isinstance(writer.error, ConnectionLost)

    def test_a_write_ends_by_itself(
        self, sshd: LoopbackSshd, connect: Callable[..., FabricLink], frozen: Callable[[], None]
    ) -> None:
        link = connect(sshd, timeouts=Timeouts(silence_seconds=1))
        session = link.run(sh("cat >/dev/null"))
        frozen()
        with pytest.raises(ConnectionLost):
            session.write(bytes(64 << 20))

    def test_a_frozen_jump_host(
        self,
        sshd: LoopbackSshd,
        connect: Callable[..., FabricLink],
        frozen: Callable[[], None],
        tmp_path: Path,
    ) -> None:
        with LoopbackSshd(tmp_path, name="inner", home=sshd.home) as inner:
            address = Address("inner", "inner", jump="loopback")
            link = connect(inner, address, timeouts=Timeouts(silence_seconds=1))
            session = link.run(sh("cat >/dev/null"))
            frozen()
            with pytest.raises(ConnectionLost):
                session.write(bytes(64 << 20))
            began = time.monotonic()
            session.close()
            link.close()
            assert time.monotonic() - began < LIMIT_SECONDS

    def test_closing_the_link_does_not_hang(
        self, sshd: LoopbackSshd, connect: Callable[..., FabricLink], frozen: Callable[[], None]
    ) -> None:
        link = connect(sshd)
        link.run(sh("cat"))
        frozen()
        began = time.monotonic()
        link.close()
        assert time.monotonic() - began < LIMIT_SECONDS
