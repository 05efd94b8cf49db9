"""Who gets in, by which key, and what a person is told who does not."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import paramiko
import pytest
from paramiko.common import AUTH_FAILED, AUTH_SUCCESSFUL, OPEN_SUCCEEDED

from envsync.errors import AuthenticationRefused
from envsync.ssh.fabric_link import FabricLink
from envsync.ssh.session import Address, Timeouts
from tests.integration.ssh import agents
from tests.integration.ssh.agents import ssh_add
from tests.integration.ssh.logins import add_config, make_key
from tests.integration.ssh.paramiko_server import paramiko_server
from tests.lab.loopback_sshd import LoopbackSshd
from tests.support.links import open_fabric_link

Connect = Callable[..., FabricLink]


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[dict[str, str]]:
    with agents.agent(tmp_path / "agent") as variables:
        yield variables


def test_refused_keys_are_named(tmp_path: Path, connect: Connect) -> None:
    with LoopbackSshd(tmp_path, extra_config=["PasswordAuthentication yes"]) as sshd:
        sshd.authorized_keys.write_text("")
        with pytest.raises(AuthenticationRefused) as caught:
            connect(sshd)
    assert caught.value.server == sshd.name
    copy = f"ssh-copy-id -i {sshd.client_key} -p {sshd.port} {sshd.user}@loopback"
    assert caught.value.hint == f"put your key there: {copy}"
    assert f"tried: {sshd.client_key}" in caught.value.details


def test_refused_where_only_keys_count(sshd: LoopbackSshd, connect: Connect) -> None:
    """`ssh-copy-id` would ask for a password that nobody takes."""
    sshd.authorized_keys.write_text("")
    with pytest.raises(AuthenticationRefused) as caught:
        connect(sshd)
    assert f"added to ~{sshd.user}/.ssh/authorized_keys there" in caught.value.hint


def test_no_key_at_all(sshd: LoopbackSshd, connect: Connect) -> None:
    sshd.client_key.unlink()
    with pytest.raises(AuthenticationRefused) as caught:
        connect(sshd)
    assert "ssh-keygen" in caught.value.hint
    assert "no usable key was found" in caught.value.details


@pytest.mark.parametrize("pem", [False, True])
def test_a_key_with_a_passphrase_is_left_to_the_agent(
    sshd: LoopbackSshd, connect: Connect, agent: dict[str, str], pem: bool
) -> None:
    sshd.client_key.unlink()
    key = make_key(sshd.home / ".ssh" / "id_rsa", "secret", "rsa", *(["-m", "PEM"] * pem))
    shutil.copy(f"{key}.pub", sshd.authorized_keys)
    with pytest.raises(AuthenticationRefused) as caught:
        connect(sshd)
    add = f"ssh-add {key}"
    assert caught.value.hint == (
        f'start an agent, and unlock that key: eval "$(ssh-agent -s)" && {add}'
    )
    with pytest.raises(AuthenticationRefused) as caught:
        connect(sshd, environ={**sshd.environ, **agent})
    assert caught.value.hint == f"unlock that key for this session: {add}"
    add_config(sshd, "IdentityAgent none")
    with pytest.raises(AuthenticationRefused) as caught:
        connect(sshd, environ={**sshd.environ, **agent})
    assert "IdentityAgent is none for loopback" in caught.value.hint


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_the_agents_key(
    sshd: LoopbackSshd, connect: Connect, agent: dict[str, str], tmp_path: Path, kind: str
) -> None:
    key = make_key(tmp_path / "secret", kind=kind)
    ssh_add(agent, key)
    shutil.copy(f"{key}.pub", sshd.authorized_keys)
    sshd.client_key.unlink()
    connect(sshd, environ={**sshd.environ, **agent})


def test_identity_agent_of_the_configuration(
    sshd: LoopbackSshd, connect: Connect, agent: dict[str, str], tmp_path: Path
) -> None:
    key = make_key(tmp_path / "secret")
    ssh_add(agent, key)
    shutil.copy(f"{key}.pub", sshd.authorized_keys)
    add_config(sshd, f"IdentityAgent {agent['SSH_AUTH_SOCK']}")
    connect(sshd)


def test_identity_agent_none_uses_no_ssh_agent(
    sshd: LoopbackSshd, connect: Connect, agent: dict[str, str], tmp_path: Path
) -> None:
    key = make_key(tmp_path / "secret")
    ssh_add(agent, key)
    shutil.copy(f"{key}.pub", sshd.authorized_keys)
    add_config(sshd, "IdentityAgent none")
    with pytest.raises(AuthenticationRefused) as caught:
        connect(sshd, environ={**sshd.environ, **agent})
    assert not [line for line in caught.value.details if "agent key" in line]


def test_a_dangling_agent_does_no_harm(
    sshd: LoopbackSshd, connect: Connect, tmp_path: Path
) -> None:
    connect(sshd, environ={**sshd.environ, "SSH_AUTH_SOCK": str(tmp_path / "gone")})


def test_an_agent_that_says_nothing_leaves_time_for_the_files(
    sshd: LoopbackSshd, connect: Connect, tmp_path: Path
) -> None:
    """As one does that a suspended laptop has forwarded to here."""
    path = str(tmp_path / "mute")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        environ = {**sshd.environ, "SSH_AUTH_SOCK": path}
        connect(sshd, timeouts=Timeouts(authentication_seconds=9.0), environ=environ)


def test_only_the_configured_identities_are_offered(
    sshd: LoopbackSshd, connect: Connect, agent: dict[str, str], tmp_path: Path
) -> None:
    """More keys in the agent than sshd has patience for; the right one is named."""
    for number in range(8):
        ssh_add(agent, make_key(tmp_path / f"key{number}"))
    right = tmp_path / "key7"
    shutil.copy(f"{right}.pub", sshd.authorized_keys)
    sshd.client_key.unlink()
    environ = {**sshd.environ, **agent}
    with pytest.raises(AuthenticationRefused, match="closed the connection after") as caught:
        connect(sshd, environ=environ)
    assert "IdentitiesOnly" in caught.value.hint
    # The private half is only in the agent.
    right.unlink()
    add_config(sshd, f"IdentityFile {right}", "IdentitiesOnly yes")
    connect(sshd, environ=environ)


def test_a_key_that_its_agent_does_not_sign_with_is_passed_by(
    sshd: LoopbackSshd, connect: Connect, agent: dict[str, str], tmp_path: Path
) -> None:
    """One that wants to be confirmed each time, and nobody is there to ask."""
    ssh_add(agent, make_key(tmp_path / "guarded"), "-c")
    environ = {**sshd.environ, **agent}
    connect(sshd, environ=environ)
    sshd.client_key.unlink()
    with pytest.raises(AuthenticationRefused) as caught:
        connect(sshd, environ=environ)
    assert any("its agent does not sign" in line for line in caught.value.details)


def test_a_comment_may_be_any_bytes(
    sshd: LoopbackSshd, connect: Connect, agent: dict[str, str], tmp_path: Path
) -> None:
    key = make_key(tmp_path / "secret", "", "ed25519", "-C", os.fsdecode(b"caf\xe9"))
    ssh_add(agent, key)
    shutil.copy(f"{key}.pub", sshd.authorized_keys)
    sshd.client_key.unlink()
    connect(sshd, environ={**sshd.environ, **agent})


def test_a_file_that_only_ssh_understands_is_passed_by(
    sshd: LoopbackSshd, connect: Connect
) -> None:
    """As that of a FIDO key is, and one in a cipher that the libraries lack."""
    cipher = "chacha20-poly1305@openssh.com"
    make_key(sshd.home / ".ssh" / "id_rsa", "secret", "rsa", "-Z", cipher)
    connect(sshd)


@pytest.mark.parametrize(
    "name", ["with space %d", "o'brien", 'the "new" one', "back\\slash \\", "a #b"]
)
def test_an_identity_file_of_the_inventory(
    sshd: LoopbackSshd, connect: Connect, tmp_path: Path, name: str
) -> None:
    key = make_key(tmp_path / name)
    shutil.copy(f"{key}.pub", sshd.authorized_keys)
    address = replace(sshd.address, identity_file=key)
    link = connect(sshd, address)
    argv = [*link.ssh_argv(), link.reached.alias, "true"]
    subprocess.run(argv, check=True, env=sshd.environ)


def test_a_server_that_wants_only_passwords(tmp_path: Path, connect: Connect) -> None:
    options = ("PubkeyAuthentication no", "PasswordAuthentication yes")
    with (
        LoopbackSshd(tmp_path, extra_config=options) as sshd,
        pytest.raises(AuthenticationRefused) as caught,
    ):
        connect(sshd)
    assert "it accepts only: password" in caught.value.details


def test_a_second_factor_is_not_passed_by(tmp_path: Path, connect: Connect) -> None:
    options = ("AuthenticationMethods publickey,password", "PasswordAuthentication yes")
    with (
        LoopbackSshd(tmp_path, extra_config=options) as sshd,
        pytest.raises(AuthenticationRefused) as caught,
    ):
        connect(sshd)
    assert "it accepts only: password" in caught.value.details


class LetsInWithoutAKey(paramiko.ServerInterface):
    """As Tailscale's ssh does, and an sshd for a user whose password is empty."""

    def __init__(self, allowed: str) -> None:
        self.allowed = allowed

    def get_allowed_auths(self, username: str) -> str:
        return self.allowed

    def check_auth_none(self, username: str) -> int:
        return AUTH_SUCCESSFUL

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        return AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        return True


@pytest.mark.parametrize("has_key", [False, True])
@pytest.mark.parametrize("allowed", ["publickey", "password"])
def test_a_server_that_asks_for_no_key(tmp_path: Path, has_key: bool, allowed: str) -> None:
    (tmp_path / ".ssh").mkdir()
    if has_key:
        make_key(tmp_path / ".ssh/id_ed25519")
    environ = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    with paramiko_server(LetsInWithoutAKey(allowed), tmp_path) as port:
        link = open_fabric_link(Address("server2", "127.0.0.1", port=port), environ=environ)
        with contextlib.closing(link):
            link.run("exec /bin/sh -c true").close()
