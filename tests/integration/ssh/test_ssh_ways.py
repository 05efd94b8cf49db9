"""The ways to a server: configuration, jump hosts, proxies, crowds; and the system's ssh."""

from __future__ import annotations

import os
import pwd
import shlex
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from socket import create_connection

import pytest

from envsync.errors import ConnectionFailed, UsageError
from envsync.ssh.fabric_link import FabricLink
from envsync.ssh.handshakes import HandshakeLimiter
from envsync.ssh.session import Address, Reached, Timeouts
from envsync.ssh.ssh_config import UserConfig
from tests.integration.ssh.logins import relay_in
from tests.integration.ssh.session_contract import read_all, sh
from tests.lab.loopback_sshd import LoopbackSshd
from tests.support.links import open_fabric_link, upload
from tests.support.processes import wait_until

Connect = Callable[..., FabricLink]


def says(link: FabricLink) -> bytes:
    """The port of the server that is at the other end."""
    session = link.run(sh("echo ${SSH_CONNECTION##* }"))
    answer = read_all(session).strip()
    session.close()
    return answer


def says_by_system_ssh(link: FabricLink, environ: dict[str, str]) -> bytes:
    argv = [*link.ssh_argv(), link.reached.alias, "echo ${SSH_CONNECTION##* }"]
    return subprocess.run(argv, check=True, capture_output=True, env=environ).stdout.strip()


@pytest.fixture
def three(tmp_path: Path) -> Iterator[list[LoopbackSshd]]:
    first = LoopbackSshd(tmp_path, name="one")
    others = [LoopbackSshd(tmp_path, name=name, home=first.home) for name in ("two", "three")]
    with first, others[0], others[1]:
        yield [first, *others]


@pytest.mark.parametrize("where", ["inventory", "configuration", "each its own"])
def test_a_chain_of_jump_hosts(three: list[LoopbackSshd], connect: Connect, where: str) -> None:
    one, two, last = three
    jump = None
    config = last.home / ".ssh" / "config"
    if where == "inventory":
        jump = f"one,{two.user}@127.0.0.1:{two.port}"
    elif where == "configuration":
        config.write_text(config.read_text() + "  ProxyJump one,two\n")
    else:
        text = config.read_text() + "  ProxyJump two\n"
        config.write_text(text.replace("Host two\n", "Host two\n  ProxyJump one\n"))
    link = connect(last, Address("server2", "three", jump=jump))
    assert says(link) == str(last.port).encode()
    assert says_by_system_ssh(link, last.environ) == str(last.port).encode()
    assert one.log.count("Accepted") == two.log.count("Accepted") == 2


@pytest.mark.parametrize("shell", ["tcsh", "fish"])
def test_a_chain_of_jump_hosts_for_a_user_of_another_shell(
    three: list[LoopbackSshd], connect: Connect, shell: str
) -> None:
    """It runs what reaches the next host, and takes an unquoted [HOST] for a pattern."""
    last = three[-1]
    environ = {**last.environ, "SHELL": str(shutil.which(shell))}
    link = connect(last, Address("server2", "three", jump="one,two"))
    assert says_by_system_ssh(link, environ) == str(last.port).encode()


def test_rsync_goes_the_same_way(
    three: list[LoopbackSshd], connect: Connect, tmp_path: Path
) -> None:
    """Its -e is split by rules of its own, through which three quoted levels must come."""
    last = three[-1]
    link = connect(last, Address("server2", "three", jump="one,two"))
    (tmp_path / "file").write_text("content")
    argv = ["rsync", "-e", shlex.join(link.ssh_argv()), str(tmp_path / "file")]
    argv.append(f"{link.reached.alias}:{tmp_path}/copy")
    subprocess.run(argv, check=True, capture_output=True, env=last.environ)
    assert (tmp_path / "copy").read_text() == "content"


def test_past_a_jump_host_of_the_configuration(sshd: LoopbackSshd, connect: Connect) -> None:
    config = sshd.home / ".ssh" / "config"
    config.write_text(config.read_text() + "  ProxyJump nobody.invalid\n")
    link = connect(sshd, replace(sshd.address, jump="none"))
    assert says(link) == says_by_system_ssh(link, sshd.environ) == str(sshd.port).encode()


def test_the_home_of_the_account_needs_no_option(sshd: LoopbackSshd, connect: Connect) -> None:
    account = UserConfig({"HOME": pwd.getpwuid(os.getuid()).pw_dir, "PATH": os.environ["PATH"]})
    assert account.file_arguments() == []
    assert account.lookup(Address("", "127.0.0.1", port=1)).endpoint == "127.0.0.1:1"


def test_jumps_in_a_circle(sshd: LoopbackSshd, connect: Connect) -> None:
    config = sshd.home / ".ssh" / "config"
    config.write_text("Host a\n  ProxyJump b\nHost b\n  ProxyJump a\n" + config.read_text())
    with pytest.raises(ConnectionFailed, match="jumps") as caught:
        connect(sshd, Address("server2", "a"))
    assert caught.value.server == "server2"


@pytest.mark.parametrize("host", ["-oProxyCommand=x", "a b", "a;b", "", "a\nb", "$(a)"])
def test_names_that_are_no_hosts(sshd: LoopbackSshd, connect: Connect, host: str) -> None:
    with pytest.raises(UsageError):
        connect(sshd, Address("server2", host))
    with pytest.raises(UsageError):
        connect(sshd, Address("server2", "loopback", jump=host or ","))


def test_host_name_that_no_host_can_have_is_reported(sshd: LoopbackSshd, connect: Connect) -> None:
    with pytest.raises(ConnectionFailed, match="no host named"):
        connect(sshd, Address("server2", "a..b"))


def test_proxy_command_is_run(sshd: LoopbackSshd, connect: Connect) -> None:
    config = sshd.home / ".ssh" / "config"
    command = f"python3 {relay_in(sshd.home)} %h %p"
    config.write_text(config.read_text() + f"  ProxyCommand {command}\n")
    link = connect(sshd)
    assert says(link) == str(sshd.port).encode()


def test_lines_before_the_first_of_ssh(sshd: LoopbackSshd, connect: Connect) -> None:
    """RFC 4253 lets a server greet at length before it says `SSH-2.0`."""
    config = sshd.home / ".ssh" / "config"
    script = f"seq 60; exec python3 {relay_in(sshd.home)} %h %p"
    config.write_text(config.read_text() + f"  ProxyCommand sh -c '{script}'\n")
    assert says(connect(sshd)) == str(sshd.port).encode()


def test_server_with_one_session_a_connection_gets_more_connections(tmp_path: Path) -> None:
    """Each further session has a connection of its own, which ends with the link."""
    strict = ("MaxSessions 1", "LogLevel VERBOSE")
    with LoopbackSshd(tmp_path, extra_config=strict) as sshd:
        link = open_fabric_link(sshd.address, environ=sshd.environ)
        sessions = [link.run(sh("read word; echo $word")) for _ in range(3)]
        (tmp_path / "file").write_bytes(b"content")
        upload(link, tmp_path / "file", tmp_path / "copy")
        assert (tmp_path / "copy").read_bytes() == b"content"
        for number, session in enumerate(sessions):
            session.write(b"%d\n" % number)
        assert [read_all(session) for session in sessions] == [b"0\n", b"1\n", b"2\n"]
        assert sshd.log.count("Accepted publickey") == 4
        for session in sessions:
            session.close()
        # What is free again is taken first: as soon as sshd takes it for free, too.
        wait_until(lambda: sshd.log.count("Close session: ") >= 4, "sshd has closed all of them")
        assert read_all(link.run(sh("echo again"))) == b"again\n"
        assert sshd.log.count("Accepted publickey") == 4
        link.close()
        wait_until(lambda: not sshd.session_pids(), "every connection has ended")


def test_include_is_followed(sshd: LoopbackSshd, connect: Connect) -> None:
    config = sshd.home / ".ssh" / "config"
    (sshd.home / "more").write_text(config.read_text().replace("loopback", "included"))
    config.write_text(f"Include {sshd.home}/more\n")
    assert says(connect(sshd, Address("server2", "included"))) == str(sshd.port).encode()


def test_connection_works_without_any_configuration(sshd: LoopbackSshd, connect: Connect) -> None:
    (sshd.home / ".ssh" / "config").unlink()
    link = connect(sshd, Address("server2", "127.0.0.1", port=sshd.port, user=sshd.user))
    assert link.reached == Reached("127.0.0.1", "127.0.0.1", sshd.user, sshd.port)
    assert says_by_system_ssh(link, sshd.environ) == str(sshd.port).encode()


def test_a_configuration_with_a_mistake(sshd: LoopbackSshd, connect: Connect) -> None:
    config = sshd.home / ".ssh" / "config"
    config.write_text("Hosst x\n")
    with pytest.raises(ConnectionFailed, match="ssh configuration") as caught:
        connect(sshd)
    assert "Hosst" in "\n".join(caught.value.details).replace("hosst", "Hosst")


def test_no_ssh_command(sshd: LoopbackSshd, connect: Connect) -> None:
    link = connect(sshd, environ={**sshd.environ, "PATH": "/nonexistent"})
    assert says(link) == str(sshd.port).encode()
    with pytest.raises(ConnectionFailed, match="no usable ssh command"):
        link.ssh_argv()


def test_the_system_ssh_asks_nothing(sshd: LoopbackSshd, connect: Connect) -> None:
    link = connect(sshd)
    argv = [*link.ssh_argv(), link.reached.alias, "true"]
    sshd.known_hosts.write_text("")
    done = subprocess.run(argv, check=False, capture_output=True, text=True, env=sshd.environ)
    assert done.returncode == 255
    assert "Host key verification failed" in done.stderr
    assert sshd.known_hosts.read_text() == ""


def test_a_crowd_is_let_in_one_after_the_other(tmp_path: Path) -> None:
    """Twenty links to an sshd that drops whoever comes while three are at the door."""
    limiter = HandshakeLimiter(at_once=3)
    with LoopbackSshd(tmp_path, extra_config=("MaxStartups 3:100:3",)) as sshd:

        def visit(_: int) -> bytes:
            link = open_fabric_link(sshd.address, environ=sshd.environ, limiter=limiter)
            answer = says(link)
            link.close()
            return answer

        with ThreadPoolExecutor(20) as pool:
            assert set(pool.map(visit, range(20))) == {str(sshd.port).encode()}


@pytest.mark.parametrize("crowded", ["jump host", "target"])
def test_eight_servers_and_a_strict_sshd(tmp_path: Path, crowded: str) -> None:
    """Two commands at once, of eight links each, where five at the door are too many."""
    strict = ("MaxStartups 3:50:5",)
    with (
        LoopbackSshd(tmp_path, name="bastion", extra_config=strict) as bastion,
        LoopbackSshd(tmp_path, name="inner", home=bastion.home) as inner,
    ):
        behind = Address("server2", "inner", jump="bastion")
        address, port = (behind, inner.port) if crowded == "jump host" else (
            bastion.address, bastion.port
        )  # fmt: skip
        limiters = [HandshakeLimiter(), HandshakeLimiter()]

        def visit(number: int) -> bytes:
            limiter = limiters[number % 2]
            link = open_fabric_link(address, environ=bastion.environ, limiter=limiter)
            answer = says(link)
            link.close()
            return answer

        with ThreadPoolExecutor(16) as pool:
            assert set(pool.map(visit, range(16))) == {str(port).encode()}


def test_dropped_connection_is_tried_again(tmp_path: Path) -> None:
    """Other people's handshakes fill sshd's queue for a while."""
    slept: list[float] = []
    with LoopbackSshd(tmp_path, extra_config=("MaxStartups 1:100:1",)) as sshd:
        loiterer = create_connection(("127.0.0.1", sshd.port))
        assert loiterer.recv(3) == b"SSH"

        def sleep(seconds: float) -> None:
            slept.append(seconds)
            if len(slept) == 2:
                loiterer.close()
            threading.Event().wait(seconds)

        limiter = HandshakeLimiter(sleep=sleep)
        open_fabric_link(sshd.address, Timeouts(), environ=sshd.environ, limiter=limiter).close()
    assert len(slept) >= 2


def test_connection_dropped_every_time_is_reported(tmp_path: Path) -> None:
    limiter = HandshakeLimiter(sleep=lambda _: None)
    with (
        LoopbackSshd(tmp_path, extra_config=("MaxStartups 1:100:1",)) as sshd,
        create_connection(("127.0.0.1", sshd.port)) as loiterer,
    ):
        assert loiterer.recv(3) == b"SSH"
        with pytest.raises(ConnectionFailed, match="closed the connection"):
            open_fabric_link(sshd.address, Timeouts(), environ=sshd.environ, limiter=limiter)
    assert sshd.log.count("drop connection") <= limiter.attempts
