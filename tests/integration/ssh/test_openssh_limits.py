"""The system's ssh waits for nobody longer than we do, and crowds are let in one by one."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from socket import create_connection

import paramiko
import pytest

from envsync.errors import AuthenticationRefused, ConnectionFailed
from envsync.ssh import fabric_link, openssh_link
from envsync.ssh.handshakes import HandshakeLimiter
from envsync.ssh.opening import open_link
from envsync.ssh.openssh_link import OpensshLink, open_route
from envsync.ssh.route import ResolvedRoute
from envsync.ssh.session import Address, Link, Timeouts
from tests.integration.ssh.paramiko_server import paramiko_server, server, stalling_server
from tests.lab.loopback_sshd import LoopbackSshd

ONCE = HandshakeLimiter(attempts=1)
SOON_SECONDS = 25.0
"""Below any of the usual limits of a connection that does not come about, taken together."""


def link_to(
    port: int, home: Path, timeouts: Timeouts, limiter: HandshakeLimiter = ONCE
) -> OpensshLink:
    environ = {"HOME": str(home), "PATH": "/usr/bin:/bin"}
    way = ResolvedRoute.find(Address("server2", "127.0.0.1", port=port), environ)
    return open_route(way, timeouts, limiter)


def test_ssh_to_a_server_without_a_banner_ends(home: Path) -> None:
    began = time.monotonic()
    with (
        server(lambda _: None) as port,
        pytest.raises(ConnectionFailed, match="sends no SSH banner"),
    ):
        # By ssh's own limit: ours for all of it together is far away.
        link_to(port, home, Timeouts(connect_seconds=1.0))
    assert time.monotonic() - began < SOON_SECONDS


def test_no_end_of_the_authentication(home: Path) -> None:
    began = time.monotonic()
    with (
        stalling_server("authentication", home) as port,
        pytest.raises(ConnectionFailed, match="did not finish the authentication within") as caught,
    ):
        # What is short has begun with ssh itself, and is to have got as far as that.
        link_to(port, home, Timeouts(2.0, 2.0, 1.0))
    assert time.monotonic() - began < SOON_SECONDS
    assert caught.value.server == "server2"


def test_dropped_ssh_tries_again(tmp_path: Path) -> None:
    slept: list[float] = []
    with LoopbackSshd(tmp_path, extra_config=("MaxStartups 1:100:1",)) as sshd:
        loiterer = create_connection(("127.0.0.1", sshd.port))
        assert loiterer.recv(3) == b"SSH"

        def sleep(seconds: float) -> None:
            slept.append(seconds)
            if len(slept) == 2:
                loiterer.close()
            threading.Event().wait(seconds)

        way = ResolvedRoute.find(sshd.address, sshd.environ)
        open_route(way, Timeouts(), HandshakeLimiter(sleep=sleep)).close()
    assert len(slept) >= 2


class ClosesTheDoor(paramiko.ServerInterface):
    """As sshd where an account has expired: the key is right, and the connection ends."""

    def __init__(self) -> None:
        self.asked = 0

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        self.asked += 1
        raise EOFError


def test_ssh_closed_during_authentication_does_not_try_again(home: Path) -> None:
    door = ClosesTheDoor()
    with (
        paramiko_server(door, home) as port,
        pytest.raises(ConnectionFailed, match="closed the connection"),
    ):
        link_to(port, home, Timeouts(), HandshakeLimiter(sleep=lambda _: None))
    assert door.asked == 1


class ForbidsTheAccountInSilence(ClosesTheDoor):
    """As sshd where a module of PAM refuses the account: after the second key has signed."""

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        self.asked += 1
        failed = self.asked == 1
        return paramiko.common.AUTH_FAILED if failed else paramiko.common.AUTH_PARTIALLY_SUCCESSFUL

    def get_allowed_auths(self, username: str) -> str:
        """Called after each refusal, and when the accepted key has signed."""
        if self.asked > 1:
            raise EOFError
        return "publickey"


class ForbidsTheAccount(ForbidsTheAccountInSilence):
    def get_banner(self) -> tuple[str, str]:
        return ("Access denied by pam_slurm_adopt: you have no active jobs on this node\n", "en")


@pytest.mark.parametrize("open_route", [fabric_link.open_route, openssh_link.open_route])
def test_a_server_that_forbids_the_account_is_named_with_what_it_says(
    home: Path, open_route: Callable[..., Link]
) -> None:
    other = home / ".ssh" / "id_ecdsa"
    subprocess.run(["ssh-keygen", "-qt", "ecdsa", "-N", "", "-f", other], check=True)
    environ = {"HOME": str(home), "PATH": "/usr/bin:/bin"}
    with paramiko_server(ForbidsTheAccount(), home) as port:
        route = ResolvedRoute.find(Address("server2", "127.0.0.1", port=port), environ)
        with pytest.raises(AuthenticationRefused, match="closes the connection of") as caught:
            open_route(route, Timeouts(), ONCE)
    assert "it says: Access denied by pam_slurm_adopt: you have no" in caught.value.details[0]
    assert "sshd's log" in caught.value.hint


def test_a_server_that_closes_each_connection_during_the_login_refuses_the_user(
    home: Path,
) -> None:
    """The second try, by ssh, has reached it: it is not unreachable."""
    other = home / ".ssh" / "id_ecdsa"
    subprocess.run(["ssh-keygen", "-qt", "ecdsa", "-N", "", "-f", other], check=True)
    environ = {"HOME": str(home), "PATH": "/usr/bin:/bin"}
    with (
        paramiko_server(ForbidsTheAccountInSilence(), home) as port,
        pytest.raises(AuthenticationRefused, match="after 2 keys") as caught,
    ):
        open_link(Address("server2", "127.0.0.1", port=port), environ=environ)
    by_ssh = caught.value.details[-1]
    assert by_ssh.startswith("the system's ssh: ")
    assert by_ssh.endswith("closed the connection during the login")


def test_ssh_dropped_every_time_is_reported(tmp_path: Path) -> None:
    slept: list[float] = []
    with (
        LoopbackSshd(tmp_path, extra_config=("MaxStartups 1:100:1",)) as sshd,
        create_connection(("127.0.0.1", sshd.port)) as loiterer,
    ):
        assert loiterer.recv(3) == b"SSH"
        way = ResolvedRoute.find(sshd.address, sshd.environ)
        with pytest.raises(ConnectionFailed, match="closed the connection"):
            open_route(way, Timeouts(), HandshakeLimiter(attempts=3, sleep=slept.append))
    assert len(slept) == 2
