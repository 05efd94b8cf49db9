"""The link over the system's ssh, held to the contract: straight, through a jump host, and
over the user's own ControlMaster."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import pytest

from envsync.errors import ConnectionFailed, ConnectionLost
from envsync.ssh import mux
from envsync.ssh.openssh_link import OpensshLink, open_route
from envsync.ssh.route import ResolvedRoute
from envsync.ssh.session import Address, Link, Timeouts
from envsync.transport import rsync_failures
from tests.integration.ssh.masters import UsersMaster, descendants
from tests.integration.ssh.session_contract import (
    LIMIT_SECONDS,
    InBackground,
    Opener,
    SessionContract,
    UploadContract,
    read_all,
    sh,
)
from tests.lab.loopback_sshd import LoopbackSshd
from tests.support.links import open_fabric_link
from tests.support.processes import is_running, wait_until


def open_by_ssh(
    sshd: LoopbackSshd, timeouts: Timeouts | None = None, address: Address | None = None
) -> OpensshLink:
    return open_route(
        ResolvedRoute.find(address or sshd.address, sshd.environ), timeouts or Timeouts()
    )


@pytest.fixture
def link(sshd: LoopbackSshd) -> Iterator[OpensshLink]:
    link = open_by_ssh(sshd)
    yield link
    link.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackSshd]:
    """For many tests: whatever they cut, it goes on listening."""
    with LoopbackSshd(tmp_path_factory.mktemp("shared"), name="shared") as sshd:
        yield sshd


@pytest.fixture(scope="module")
def inner(shared: LoopbackSshd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackSshd]:
    """Behind `shared`."""
    directory = tmp_path_factory.mktemp("inner")
    with LoopbackSshd(directory, name="inner", home=shared.home) as inner:
        yield inner


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackSshd]:
    """Of the user's own master."""
    with LoopbackSshd(tmp_path_factory.mktemp("mastered"), name="mastered") as sshd:
        yield sshd


class TestOpensshSession(SessionContract):
    @pytest.fixture
    def opener(self, shared: LoopbackSshd) -> Opener:
        return lambda timeouts: open_by_ssh(shared, timeouts)

    @pytest.fixture
    def cut(self, shared: LoopbackSshd) -> Callable[[], object]:
        return shared.cut


class TestOpensshSessionThroughJump(SessionContract):
    @pytest.fixture
    def opener(self, inner: LoopbackSshd) -> Opener:
        address = Address("inner", "inner", jump="shared")
        return lambda timeouts: open_by_ssh(inner, timeouts, address)

    @pytest.fixture
    def cut(self, shared: LoopbackSshd) -> Callable[[], object]:
        """Of the jump host."""
        return shared.cut


class TestUsersMasterSession(SessionContract):
    @pytest.fixture
    def master(self, server: LoopbackSshd, tmp_path: Path) -> Iterator[UsersMaster]:
        with UsersMaster(server, server.directory / "cm") as master:
            yield master

    @pytest.fixture
    def opener(self, server: LoopbackSshd, master: UsersMaster) -> Opener:
        return lambda timeouts: open_by_ssh(server, timeouts)

    @pytest.fixture
    def cut(self, master: UsersMaster) -> Callable[[], object]:
        return master.kill


class TestOpensshUpload(UploadContract):
    @pytest.fixture
    def open_link(self) -> Callable[[LoopbackSshd], Link]:
        return open_by_ssh


def test_a_frozen_server_holds_nobody(sshd: LoopbackSshd) -> None:
    link = open_by_ssh(sshd, Timeouts(silence_seconds=1, channel_seconds=1))
    session = link.run(sh("cat >/dev/null"))
    stopped = sshd.session_pids()
    try:
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        with pytest.raises(ConnectionLost):
            session.write(bytes(64 << 20))
        writer = InBackground(lambda: link.run(sh("true")))
        writer.join()
        assert "opened no session in time" in str(writer.error)
        began = time.monotonic()
        link.close()
        assert time.monotonic() - began < LIMIT_SECONDS
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)


def test_a_server_that_vanishes_is_noticed(sshd: LoopbackSshd) -> None:
    """By ssh's own questions, long before our limit."""
    link = open_by_ssh(sshd, Timeouts(keepalive_seconds=1, silence_seconds=2))
    session = link.run(sh("cat"))
    stopped = sshd.session_pids()
    try:
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        with pytest.raises(ConnectionLost):
            session.read(1)
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
    link.close()


def test_nothing_is_left_behind(sshd: LoopbackSshd) -> None:
    link = open_by_ssh(sshd)
    directory = Path(link.ssh_argv()[link.ssh_argv().index("-S") + 1]).parent
    assert directory.stat().st_mode & 0o777 == 0o700
    started = descendants(os.getpid(), directory.name)
    assert len(started) == 2, "ssh, and the shell that ends it"
    link.run(sh("cat"))
    link.close()
    assert not directory.exists()
    assert not descendants(os.getpid(), directory.name)


def test_nothing_is_left_behind_by_who_is_killed(sshd: LoopbackSshd) -> None:
    script = (
        "import os, sys, time\n"
        "from envsync.ssh.openssh_link import open_route\n"
        "from envsync.ssh.session import Address, Timeouts\n"
        "from envsync.ssh.route import ResolvedRoute\n"
        "link = open_route(ResolvedRoute.find(Address('s', sys.argv[1]), os.environ), Timeouts())\n"
        "session = link.run(\"exec /bin/sh -c 'exec cat'\")\n"
        "print(link.ssh_argv()[link.ssh_argv().index('-S') + 1], flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, sshd.name], env=sshd.environ, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        path = Path(process.stdout.readline().decode().strip())
        assert mux.is_alive(path, 5)
        pids = descendants(process.pid, path.parent.name)
        assert len(pids) == 2
        process.kill()
    wait_until(lambda: not path.parent.exists(), "the directory is gone")
    wait_until(lambda: not any(map(is_running, pids)), "ssh has ended")


# As OpenSSH is where a signal comes after it looked for one, and before it waits.
_MISSES_THE_FIRST = """\
#!/bin/sh
trap 'trap - TERM' TERM
echo up
while :; do sleep 0.1; done
"""


def test_an_ssh_that_misses_the_first_signal_is_told_again(tmp_path: Path) -> None:
    ssh = tmp_path / "ssh"
    ssh.write_text(_MISSES_THE_FIRST)
    ssh.chmod(0o755)
    script = (
        "import os, sys, time\n"
        "from envsync.ssh.openssh_master import Master\n"
        "master = Master(lambda _: [sys.argv[1]], 'host', os.environ)\n"
        "while not master.printed: time.sleep(0.01)\n"
        "print(master.directory, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(ssh)], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        directory = Path(process.stdout.readline().decode().strip())
        # At times there is a third: what the shell starts has the shell's command line at first.
        pids = descendants(process.pid, directory.name)
        assert len(pids) >= 2
        process.kill()
    wait_until(lambda: not directory.exists(), "the directory is gone")
    wait_until(lambda: not any(map(is_running, pids)), "ssh has ended")


def test_rsync_goes_over_the_same_connection(
    sshd: LoopbackSshd, link: OpensshLink, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("content")
    argv = [*link.ssh_argv(), link.reached.alias, f"cat > {tmp_path}/copy"]
    with (tmp_path / "file").open() as file:
        subprocess.run(argv, stdin=file, check=True, env=sshd.environ)
    assert (tmp_path / "copy").read_text() == "content"
    assert sshd.log.count("Accepted publickey") == 1
    link.close()
    done = subprocess.run(argv, capture_output=True, check=False, env=sshd.environ)
    assert done.returncode == 255
    assert sshd.log.count("Accepted publickey") == 1, "it may not go another way"


def test_the_users_master_is_used_and_lives_on(sshd: LoopbackSshd, tmp_path: Path) -> None:
    with UsersMaster(sshd, tmp_path / "cm") as master:
        link = open_by_ssh(sshd)
        assert read_all(link.run(sh("echo in"))) == b"in\n"
        running = link.run(sh("cat"))
        link.close()
        with pytest.raises(ConnectionLost):
            running.read(1)
        assert master.is_alive
        assert sshd.log.count("Accepted publickey") == 1


@contextlib.contextmanager
def suspended_connections(sshd: LoopbackSshd) -> Iterator[None]:
    pids = sshd.session_pids()

    def send(number: signal.Signals) -> None:
        for pid in pids:
            # sshd's process for the login may just end.
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    send(signal.SIGSTOP)
    try:
        yield
    finally:
        send(signal.SIGCONT)


def test_link_over_a_users_master_with_a_dead_connection_opens_its_own(
    sshd: LoopbackSshd, tmp_path: Path
) -> None:
    """As after a suspend: the master notices it only when TCP gives up, many minutes later."""
    with (
        UsersMaster(sshd, tmp_path / "cm"),
        suspended_connections(sshd),
        mock.patch.object(mux, "open_session", wraps=mux.open_session) as asked,
    ):
        link = open_by_ssh(sshd, Timeouts(channel_seconds=1))
        assert read_all(link.run(sh("echo in"))) == b"in\n"
        dead, own = [call.args[0] for call in asked.call_args_list]
        assert dead != own
        assert read_all(link.run(sh("echo again"))) == b"again\n"
        assert [call.args[0] for call in asked.call_args_list] == [dead, own, own]
        link.close()
        assert sshd.log.count("Accepted publickey") == 2


def test_dead_master_of_a_user_whom_no_key_lets_in_is_told_as_a_server_too_slow(
    sshd: LoopbackSshd, tmp_path: Path
) -> None:
    """Only the user logs in there, with a second factor: no key of theirs is missing."""
    with UsersMaster(sshd, tmp_path / "cm"), suspended_connections(sshd):
        sshd.authorized_keys.write_text("")
        link = open_by_ssh(sshd, Timeouts(channel_seconds=1))
        with pytest.raises(ConnectionFailed, match="opened no session in time") as caught:
            link.run(sh("true"))
        link.close()
    assert caught.value.server == sshd.name
    (detail,) = caught.value.details
    assert re.fullmatch("a connection of our own: .* does not let .* in", detail)


def test_a_socket_of_somebody_else_is_not_trusted(
    sshd: LoopbackSshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with UsersMaster(sshd, tmp_path / "cm"):
        monkeypatch.setattr(os, "geteuid", lambda: 4242)
        link = open_by_ssh(sshd)
        assert str(tmp_path / "cm") not in link.ssh_argv()
        link.close()


@pytest.mark.parametrize("by_fabric", [False, True])
def test_socket_of_somebody_else_leads_to_no_jump_host(
    sshd: LoopbackSshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_fabric: bool
) -> None:
    """Not even by the ssh that rsync starts."""
    with (
        UsersMaster(sshd, tmp_path / "cm"),
        LoopbackSshd(tmp_path, name="inner", home=sshd.home) as inner,
    ):
        monkeypatch.setattr(os, "geteuid", lambda: 4242)
        address = Address("inner", "inner", jump=sshd.name)
        if by_fabric:
            with contextlib.closing(open_fabric_link(address, environ=sshd.environ)) as link:
                subprocess.run([*link.ssh_argv(), "inner", "true"], check=True, env=sshd.environ)
        else:
            open_by_ssh(inner, None, address).close()
        assert sshd.log.count("Accepted publickey") == 2 + by_fabric


def test_server_that_grants_one_session_gets_another_connection(tmp_path: Path) -> None:
    """The next one gets a connection of its own."""
    with LoopbackSshd(tmp_path, extra_config=("MaxSessions 1",)) as sshd:
        link = open_by_ssh(sshd)
        session = link.run(sh("cat"))
        assert read_all(link.run(sh("echo second"))) == b"second\n"
        session.write(b"still here\n")
        assert session.read(100) == b"still here\n"
        assert sshd.log.count("Accepted publickey") == 2
        link.close()
    assert not descendants(os.getpid(), "ControlPersist=no")


def test_rsync_beside_the_only_session_is_told_what_refuses_it(tmp_path: Path) -> None:
    with LoopbackSshd(tmp_path, extra_config=("MaxSessions 1",)) as sshd:
        link = open_by_ssh(sshd)
        session = link.run(sh("cat"))
        argv = [*link.ssh_argv(), link.reached.alias, "true"]
        done = subprocess.run(
            argv, capture_output=True, text=True, check=False, env=sshd.environ, timeout=30
        )
        error = rsync_failures.failure(done.returncode, done.stderr, "s", is_link_alive=True)
        assert "refuses rsync a session" in error.message
        session.close()
        link.close()


def test_a_server_that_grants_no_session(tmp_path: Path) -> None:
    with LoopbackSshd(tmp_path, extra_config=("MaxSessions 0",)) as sshd:
        link = open_by_ssh(sshd)
        with pytest.raises(ConnectionFailed, match="opens no session") as caught:
            link.run(sh("true"))
        assert "MaxSessions" in caught.value.hint
        link.close()
