"""The implementation that is chosen by itself, on real servers, and what both refuse."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from envsync.errors import AuthenticationRefused, ConnectionFailed, EnvsyncError, HostKeyRefused
from envsync.ssh import fabric_link, openssh_link
from envsync.ssh.opening import open_link
from envsync.ssh.route import ResolvedRoute
from envsync.ssh.session import Address, Link, LinkChoice, Timeouts
from tests.integration.ssh.agents import agent, ssh_add
from tests.integration.ssh.logins import add_config, make_key, relay_in
from tests.integration.ssh.masters import UsersMaster
from tests.integration.ssh.session_contract import LIMIT_SECONDS, read_all, sh
from tests.lab.loopback_sshd import LoopbackSshd, free_port
from tests.support.processes import wait_until

Open = Callable[..., Link]


@pytest.fixture
def connect() -> Iterator[Open]:
    """`connect(sshd)`: as the command does it."""
    links: list[Link] = []

    def open_it(sshd: LoopbackSshd, environ: dict[str, str] | None = None) -> Link:
        links.append(open_link(sshd.address, environ=environ or sshd.environ))
        return links[-1]

    yield open_it
    for link in links:
        link.close()


@pytest.fixture(params=["fabric", "ssh"])
def by(request: pytest.FixtureRequest) -> Callable[[LoopbackSshd], Link]:
    """Each implementation for itself: neither lets in what the other refuses."""

    def open_it(sshd: LoopbackSshd) -> Link:
        way = ResolvedRoute.find(sshd.address, sshd.environ)
        if request.param == "ssh":
            return openssh_link.open_route(way, Timeouts())
        return fabric_link.open_route(way, Timeouts())

    return open_it


def sign(authority: Path, key: Path, *options: str) -> None:
    argv = ["ssh-keygen", "-q", "-s", str(authority), "-I", "test", *options, f"{key}.pub"]
    subprocess.run(argv, check=True, capture_output=True)


def public(key: Path) -> str:
    return " ".join(Path(f"{key}.pub").read_text().split()[:2])


def works(link: Link) -> bool:
    session = link.run(sh("echo in"))
    try:
        return read_all(session) == b"in\n"
    finally:
        session.close()


@pytest.fixture
def certified(tmp_path: Path) -> Iterator[LoopbackSshd]:
    """A server whose host key an authority has signed, and nobody knows the key itself."""
    authority = make_key(tmp_path / "authority")
    make_key(tmp_path / "certified")
    sign(authority, tmp_path / "certified", "-h", "-n", "127.0.0.1")
    options = (
        f"HostKey {tmp_path}/certified",
        f"HostCertificate {tmp_path}/certified-cert.pub",
    )
    with LoopbackSshd(tmp_path, known=False, extra_config=options) as sshd:
        yield sshd


def test_fabric_is_the_default(sshd: LoopbackSshd, connect: Open) -> None:
    assert connect(sshd).chosen.name == "fabric"


def test_a_host_key_that_an_authority_signed(
    certified: LoopbackSshd, connect: Open, tmp_path: Path
) -> None:
    certified.known_hosts.write_text(f"@cert-authority * {public(tmp_path / 'authority')}\n")
    link = connect(certified)
    assert link.chosen.name == "ssh"
    assert "@cert-authority" in link.chosen.reason
    assert works(link)


@pytest.mark.parametrize("named", ["[127.0.0.1]:{}", "127.0.0.1"])
@pytest.mark.parametrize("for_hosts", ["*", "127.0.0.*"])
def test_a_host_key_that_an_authority_signed_beside_another_key(
    certified: LoopbackSshd, connect: Open, tmp_path: Path, named: str, for_hosts: str
) -> None:
    """The key from before a reinstallation, or that of another sshd there, says nothing."""
    old = f"{named.format(certified.port)} {public(make_key(tmp_path / 'old'))}\n"
    authority = f"@cert-authority {for_hosts} {public(tmp_path / 'authority')}\n"
    certified.known_hosts.write_text(old + authority)
    assert works(connect(certified))


def test_host_certificate_of_another_authority_is_refused(
    certified: LoopbackSshd, connect: Open, tmp_path: Path
) -> None:
    other = make_key(tmp_path / "other")
    certified.known_hosts.write_text(f"@cert-authority * {public(other)}\n")
    with pytest.raises(HostKeyRefused, match="not in known_hosts") as caught:
        connect(certified)
    assert any("known_hosts has no such authority" in line for line in caught.value.details)
    assert "Accepted" not in certified.log


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("-n", "127.0.0.1", "-V", "20200101:20200102"), "expired"),
        (("-n", "gpu07"), "name is not a listed principal"),
    ],
)
def test_an_invalid_certificate_of_a_known_authority_is_refused_with_its_reason(
    certified: LoopbackSshd, connect: Open, tmp_path: Path, options: Sequence[str], reason: str
) -> None:
    certified.stop()
    sign(tmp_path / "authority", tmp_path / "certified", "-h", *options)
    certified.start()
    certified.known_hosts.write_text(f"@cert-authority * {public(tmp_path / 'authority')}\n")
    with pytest.raises(HostKeyRefused, match=r"certificate of .* is not valid") as caught:
        connect(certified)
    assert reason in caught.value.message
    assert "ssh-keyscan" not in caught.value.hint
    assert "Accepted" not in certified.log


def test_an_authority_that_was_revoked(
    certified: LoopbackSshd, connect: Open, tmp_path: Path
) -> None:
    authority = public(tmp_path / "authority")
    certified.known_hosts.write_text(f"@cert-authority * {authority}\n@revoked * {authority}\n")
    with pytest.raises(HostKeyRefused):
        connect(certified)
    assert "Accepted" not in certified.log


def test_an_authority_and_no_ssh(certified: LoopbackSshd, connect: Open, tmp_path: Path) -> None:
    certified.known_hosts.write_text(f"@cert-authority * {public(tmp_path / 'authority')}\n")
    with pytest.raises(HostKeyRefused) as caught:
        connect(certified, {**certified.environ, "PATH": "/nonexistent"})
    assert "install openssh-client" in caught.value.hint
    assert any("@cert-authority" in line for line in caught.value.details)


def test_a_live_master(sshd: LoopbackSshd, connect: Open, tmp_path: Path) -> None:
    with UsersMaster(sshd, tmp_path / "cm") as master:
        link = connect(sshd)
        assert (link.chosen.name, link.chosen.reason) == (
            "ssh",
            f"a live ControlMaster for {sshd.name}",
        )
        assert works(link)
        link.close()
        assert master.is_alive
    assert connect(sshd).chosen.name == "fabric", "a socket without a master counts for nothing"


def test_a_live_master_to_the_jump_host(sshd: LoopbackSshd, tmp_path: Path) -> None:
    """As behind a second factor: nobody but that master gets into the jump host."""
    with (
        UsersMaster(sshd, tmp_path / "cm") as master,
        LoopbackSshd(tmp_path, name="inner", home=sshd.home) as inner,
    ):
        sshd.authorized_keys.write_text("")
        address = Address("inner", "inner", jump=sshd.name)
        link = open_link(address, environ=sshd.environ)
        assert f"a live ControlMaster for {sshd.name}" in link.chosen.reason
        assert works(link)
        link.close()
        assert master.is_alive
        assert inner.log.count("Accepted") == 1


def test_a_key_in_the_agent_only(sshd: LoopbackSshd, tmp_path: Path) -> None:
    sshd.client_key.unlink()
    with agent(tmp_path / "agent") as variables:
        key = make_key(tmp_path / "secret")
        ssh_add(variables, key)
        shutil.copy(f"{key}.pub", sshd.authorized_keys)
        key.unlink()
        way = ResolvedRoute.find(sshd.address, {**sshd.environ, **variables})
        link = openssh_link.open_route(way, Timeouts())
        assert works(link)
        link.close()


def test_a_certificate_that_is_in_the_way(
    sshd: LoopbackSshd, connect: Open, tmp_path: Path
) -> None:
    """paramiko offers only the certificate beside a key; ssh offers the key as well."""
    sign(make_key(tmp_path / "unknown"), sshd.client_key, "-n", "nobody")
    link = connect(sshd)
    assert link.chosen.name == "ssh"
    assert "can connect where fabric could not" in link.chosen.reason
    assert works(link)


def test_an_algorithm_that_only_ssh_has(tmp_path: Path, connect: Open) -> None:
    with LoopbackSshd(tmp_path, extra_config=("Ciphers chacha20-poly1305@openssh.com",)) as sshd:
        link = connect(sshd)
        assert link.chosen.name == "ssh"
        assert works(link)


def test_bind_address_is_heeded(tmp_path: Path, connect: Open) -> None:
    with LoopbackSshd(tmp_path, extra_config=("AllowUsers *@127.0.0.5",)) as sshd:
        add_config(sshd, "BindAddress 127.0.0.5")
        link = connect(sshd)
        assert link.chosen == LinkChoice("ssh", f"BindAddress 127.0.0.5 for {sshd.name}")
        assert works(link)
        assert "not allowed" not in sshd.log
        with pytest.raises(AuthenticationRefused) as caught:
            connect(sshd, {**sshd.environ, "PATH": "/nonexistent"})
    assert "install openssh-client" in caught.value.hint


_PASSES_SOCKET = """\
import socket, sys
connection = socket.create_connection((sys.argv[1], int(sys.argv[2])))
socket.send_fds(socket.socket(fileno=1), [b"x"], [connection.fileno()])
"""


@pytest.fixture
def passes_socket(tmp_path: Path) -> str:
    """A ProxyCommand that hands a connection over, for `ProxyUseFdpass yes`."""
    script = tmp_path / "pass.py"
    script.write_text(_PASSES_SOCKET)
    return f"{sys.executable} {script} %h %p"


def test_a_proxy_command_that_passes_a_socket(
    sshd: LoopbackSshd, connect: Open, passes_socket: str
) -> None:
    add_config(sshd, "ProxyUseFdpass yes", f"ProxyCommand {passes_socket}")
    link = connect(sshd)
    assert link.chosen.reason == f"ProxyUseFdpass for {sshd.name}"
    assert works(link)
    with pytest.raises(EnvsyncError) as caught:
        connect(sshd, {**sshd.environ, "PATH": "/nonexistent"})
    assert any("ProxyUseFdpass" in line for line in caught.value.details)


def test_a_jump_host_behind_such_a_command(
    sshd: LoopbackSshd, tmp_path: Path, passes_socket: str
) -> None:
    """What is said of every host is not about the way on from the jump host."""
    with LoopbackSshd(tmp_path, name="inner", home=sshd.home) as inner:
        add_config(inner, f"ProxyJump {sshd.name}", "Host *", "ProxyUseFdpass yes")
        add_config(inner, f"Host {sshd.name}", f"ProxyCommand {passes_socket}")
        link = open_link(inner.address, environ=sshd.environ)
        assert link.chosen.reason == f"ProxyUseFdpass for {sshd.name}"
        assert works(link)
        link.close()


def test_connect_timeout_is_heeded(sshd: LoopbackSshd) -> None:
    """`ConnectTimeout` says that it does: longer than we would wait, as for another meanwhile."""
    begun, go = sshd.home / "begun", sshd.home / "go"
    waits = f"touch {begun}-%h; until [ -e {go} ]; do sleep 0.05; done"
    proxy = f"ProxyCommand sh -c '{waits}; exec python3 {relay_in(sshd.home)} %h %p'"
    add_config(sshd, "ConnectTimeout 60", proxy, "Host other", "HostName other", proxy)
    short = Timeouts(connect_seconds=0.5, banner_seconds=0.5)
    with ThreadPoolExecutor(1) as pool:
        opening = pool.submit(open_link, sshd.address, short, environ=sshd.environ)
        try:
            wait_until(Path(f"{begun}-127.0.0.1").exists, "it is waited for")
            with pytest.raises(EnvsyncError, match="no SSH banner"):
                open_link(Address("other", "other"), short, environ=sshd.environ)
        finally:
            go.touch()
        link = opening.result(30)
    assert link.chosen.name == "fabric"
    assert works(link)
    link.close()


def test_algorithms_that_the_configuration_leaves(tmp_path: Path, connect: Open) -> None:
    options = ("LogLevel DEBUG", "KexAlgorithms curve25519-sha256@libssh.org,ecdh-sha2-nistp384")
    with LoopbackSshd(tmp_path, extra_config=options) as sshd:
        add_config(sshd, "MACs umac-64@openssh.com,hmac-sha2-512")
        add_config(sshd, "Ciphers chacha20-poly1305@openssh.com,aes256-ctr")
        add_config(sshd, "KexAlgorithms ecdh-sha2-nistp384")
        assert connect(sshd).chosen.name == "fabric"
        assert "kex: algorithm: ecdh-sha2-nistp384" in sshd.log
        assert "client->server cipher: aes256-ctr MAC: hmac-sha2-512 " in sshd.log


def test_an_algorithm_that_the_configuration_wants_and_only_ssh_has(
    sshd: LoopbackSshd, connect: Open
) -> None:
    add_config(sshd, "Ciphers chacha20-poly1305@openssh.com")
    link = connect(sshd)
    assert link.chosen.name == "ssh"
    assert works(link)


def test_a_key_with_a_passphrase_of_which_ssh_says_nothing(
    sshd: LoopbackSshd, connect: Open, tmp_path: Path
) -> None:
    """The server would accept it: to put it there once more helps nobody."""
    sshd.client_key.unlink()
    key = tmp_path / "my key"
    subprocess.run(["ssh-keygen", "-qt", "ed25519", "-N", "secret", "-f", key], check=True)
    sshd.authorized_keys.write_text(public(key))
    add_config(sshd, f'IdentityFile "{key}"', "BindAddress 127.0.0.1")
    with pytest.raises(AuthenticationRefused) as caught:
        connect(sshd)
    assert caught.value.details == (
        "no usable key was found",
        f"needs a passphrase, not tried: {key}",
    )
    assert caught.value.hint.endswith(f"""eval "$(ssh-agent -s)" && ssh-add '{key}'""")
    with agent(tmp_path / "agent") as variables, pytest.raises(AuthenticationRefused) as caught:
        connect(sshd, {**sshd.environ, **variables})
    assert caught.value.hint == f"unlock that key for this session: ssh-add '{key}'"


def test_first_reason_is_told_where_both_implementations_are_refused(
    sshd: LoopbackSshd, connect: Open
) -> None:
    """The first reason is the one that is told."""
    sshd.authorized_keys.write_text("")
    with pytest.raises(AuthenticationRefused) as caught:
        connect(sshd)
    assert f"tried: {sshd.client_key}" in caught.value.details
    assert "the system's ssh: " in caught.value.details[-1]
    assert "ssh-copy-id" in caught.value.hint


def test_a_second_try_that_cannot_connect_says_that_the_server_is_unreachable(
    sshd: LoopbackSshd, connect: Open, tmp_path: Path
) -> None:
    """Only ssh could have said that the user is refused; a daemon tries again soon."""
    sshd.authorized_keys.write_text("")
    ssh = tmp_path / "bin" / "ssh"
    ssh.parent.mkdir()
    elsewhere = f'[ "$1" = -G ] || set -- -p {free_port()} "$@"'
    ssh.write_text(f'#!/bin/sh\n{elsewhere}\nexec {shutil.which("ssh")} "$@"\n')
    ssh.chmod(0o755)
    path = f"{ssh.parent}:{sshd.environ['PATH']}"
    with pytest.raises(ConnectionFailed, match="refuses connections") as caught:
        connect(sshd, {**sshd.environ, "PATH": path})
    assert f"tried: {sshd.client_key}" in caught.value.details
    assert "does not let" in "".join(caught.value.details)


def test_other_failures_are_not_tried_twice(sshd: LoopbackSshd, connect: Open) -> None:
    sshd.known_hosts.write_text("")
    with pytest.raises(HostKeyRefused) as caught:
        connect(sshd)
    assert not any("system's ssh" in line for line in caught.value.details)


class TestBothRefuse:
    @pytest.mark.parametrize(
        "line",
        [
            "",
            "StrictHostKeyChecking no",
            "NoHostAuthenticationForLocalhost yes",
            "VerifyHostKeyDNS yes",
        ],
    )
    def test_an_unknown_key(self, sshd: LoopbackSshd, by: Open, line: str) -> None:
        """Whatever the configuration would have let pass."""
        add_config(sshd, line)
        sshd.known_hosts.write_text("")
        with pytest.raises(HostKeyRefused, match="not in known_hosts") as caught:
            by(sshd)
        assert "its fingerprint: SHA256:" in "".join(caught.value.details)
        assert caught.value.server == sshd.name
        assert sshd.known_hosts.read_text() == ""
        self.assert_nobody_logged_in(sshd)

    def test_a_changed_key(self, sshd: LoopbackSshd, by: Open, tmp_path: Path) -> None:
        other = public(make_key(tmp_path / "other"))
        sshd.known_hosts.write_text(f"[127.0.0.1]:{sshd.port} {other}\n")
        with pytest.raises(HostKeyRefused, match="has changed") as caught:
            by(sshd)
        assert "ssh-keygen -R" in caught.value.hint
        self.assert_nobody_logged_in(sshd)

    def test_a_revoked_key(self, sshd: LoopbackSshd, by: Open) -> None:
        with sshd.known_hosts.open("a") as file:
            file.write(f"@revoked * {sshd.host_key_lines()[0].partition(' ')[2]}\n")
        with pytest.raises(HostKeyRefused, match="revoked"):
            by(sshd)
        self.assert_nobody_logged_in(sshd)

    def test_a_key_in_a_revocation_list(self, sshd: LoopbackSshd, by: Open, tmp_path: Path) -> None:
        config = sshd.home / ".ssh" / "config"
        config.write_text(config.read_text() + f"  RevokedHostKeys {tmp_path}/revoked\n")
        shutil.copy(f"{sshd.host_keys[0]}.pub", tmp_path / "revoked")
        with pytest.raises(HostKeyRefused, match="revoked"):
            by(sshd)
        (tmp_path / "revoked").unlink()
        with pytest.raises(HostKeyRefused, match="revoked"):
            by(sshd)
        self.assert_nobody_logged_in(sshd)

    def test_a_server_that_wants_a_password(self, tmp_path: Path, by: Open) -> None:
        """No question: there is a terminal, an askpass program, and nobody to answer."""
        askpass = tmp_path / "askpass"
        askpass.write_text(f"#!/bin/sh\ntouch {tmp_path}/asked\necho secret\n")
        askpass.chmod(0o755)
        options = ("PubkeyAuthentication no", "PasswordAuthentication yes")
        with LoopbackSshd(tmp_path, extra_config=options) as sshd:
            asking = {"SSH_ASKPASS": str(askpass), "SSH_ASKPASS_REQUIRE": "force", "DISPLAY": ":9"}
            began = time.monotonic()
            with pytest.raises(AuthenticationRefused) as caught:
                by(Asking(sshd, asking))
            assert time.monotonic() - began < LIMIT_SECONDS
            assert "it accepts only: password" in caught.value.details
            assert not (tmp_path / "asked").exists()

    def test_refused_connection_is_reported_by_both_implementations(
        self, sshd: LoopbackSshd, by: Open
    ) -> None:
        sshd.stop()
        with pytest.raises(EnvsyncError, match="refuses connections"):
            by(sshd)

    def test_unknown_host_name_is_reported_by_both_implementations(
        self, sshd: LoopbackSshd, by: Open
    ) -> None:
        config = sshd.home / ".ssh" / "config"
        config.write_text(config.read_text().replace("127.0.0.1", "nowhere.invalid"))
        with pytest.raises(EnvsyncError, match="no host named 'nowhere"):
            by(sshd)

    @staticmethod
    def assert_nobody_logged_in(sshd: LoopbackSshd) -> None:
        assert "Accepted" not in sshd.log
        assert "Failed" not in sshd.log


class Asking:
    """A server as a client sees it whose environment has more variables."""

    def __init__(self, sshd: LoopbackSshd, variables: dict[str, str]) -> None:
        self.address = sshd.address
        self.environ = {**sshd.environ, **variables}


def test_the_identity_file_of_the_inventory(sshd: LoopbackSshd, tmp_path: Path) -> None:
    key = make_key(tmp_path / "with space %d")
    shutil.copy(f"{key}.pub", sshd.authorized_keys)
    way = ResolvedRoute.find(replace(sshd.address, identity_file=key), sshd.environ)
    link = openssh_link.open_route(way, Timeouts())
    assert works(link)
    link.close()


def test_a_key_that_may_be_used_there_alone(
    sshd: LoopbackSshd, connect: Open, tmp_path: Path
) -> None:
    """`ssh-add -h`: its agent signs only for who tells it where to; paramiko cannot."""
    key = make_key(tmp_path / "bound")
    shutil.copy(f"{key}.pub", sshd.authorized_keys)
    sshd.client_key.unlink()
    bound = ("-H", str(sshd.known_hosts), "-h", f"[127.0.0.1]:{sshd.port}")
    with agent(tmp_path / "agent") as variables:
        ssh_add(variables, key, *bound)
        link = connect(sshd, {**sshd.environ, **variables})
        assert link.chosen.name == "ssh"
