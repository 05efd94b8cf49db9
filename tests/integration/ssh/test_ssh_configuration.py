"""What `~/.ssh/config` says is what is done: by `ssh -G`, and by paramiko's parser without it.

Where the parser does not understand a line, it says which one, instead of going on.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from envsync.errors import ConnectionFailed
from envsync.ssh import programs
from envsync.ssh.fabric_link import FabricLink
from envsync.ssh.host_settings import HostSettings
from envsync.ssh.route import ResolvedRoute, find_route
from envsync.ssh.session import Address, Timeouts
from envsync.ssh.ssh_config import UserConfig
from envsync.ssh.system_ssh import ssh_argv
from tests.integration.ssh.session_contract import read_all, sh
from tests.lab.loopback_sshd import LoopbackSshd

Connect = Callable[..., FabricLink]

CONFIG = """\
# a lab's, with most of what people write
Match host *.late
  User wrong
Host gpu0? gpu1? !gpu07
  User alice
  Port 2202
  HostName %h.lab.example
Host gpu07
  HostName 192.0.2.7
Host gpu*
  ProxyJump bob@gate:2222
  HostKeyAlias cluster
  IdentityFile ~/.ssh/first-%r
  IdentityFile ~/.ssh/second
  IdentitiesOnly yes
  UserKnownHostsFile ~/.ssh/lab_hosts "~/.ssh/more hosts"
Host gate
  HostName gate.lab.example
  ProxyJump front
Host front
  ProxyCommand nc -X connect %h %p
Match host *.lab.example user bob
  IdentityFile ~/.ssh/bobs
Match originalhost edge
  Port 2299
Match final host gate.lab.example
  HostKeyAlias gatekeeper
Host *
  User common
  IdentityFile=~/.ssh/last
"""
HOSTS = ("gpu01", "gpu07", "gpu1x", "gate", "front", "edge", "other.late", "192.0.2.7")


def config_of(home: Path, text: str, *, has_ssh: bool) -> UserConfig:
    (home / ".ssh").mkdir(exist_ok=True)
    (home / ".ssh" / "config").write_text(text)
    path = os.environ["PATH"] if has_ssh else "/nonexistent"
    return UserConfig({"HOME": str(home), "PATH": path})


def without_defaults(settings: HostSettings) -> tuple[object, ...]:
    """What both readers have to agree on: everything but the names of /etc's files."""
    return (
        settings.hostname.lower(), settings.user, settings.port, settings.jump,
        settings.proxy_command, settings.host_key_alias, settings.identity_files,
        settings.identities_only, settings.user_known_hosts,
    )  # fmt: skip


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("user", [None, "bob"])
def test_ssh_and_the_parser_read_a_configuration_alike(
    tmp_path: Path, host: str, user: str | None
) -> None:
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "more hosts").touch()
    asked = Address("", host, user)
    by_ssh, by_paramiko = (
        config_of(tmp_path, CONFIG, has_ssh=has_ssh).lookup(asked) for has_ssh in (True, False)
    )
    assert without_defaults(by_ssh) == without_defaults(by_paramiko)


@pytest.mark.parametrize("has_ssh", [True, False])
def test_tokens_in_a_proxyjump_are_those_of_the_host_behind_it(
    tmp_path: Path, has_ssh: bool
) -> None:
    text = "Host gpu01\n  HostName 10.0.0.1\n  User alice\n  ProxyJump %r@gate-%h:2222\n"
    config = config_of(tmp_path, text, has_ssh=has_ssh)
    gate, _ = find_route(Address("server1", "gpu01"), config)
    assert (gate.user, gate.endpoint) == ("alice", "gate-10.0.0.1:2222")


# What `ssh -G` says of these is what an ssh of ours then uses.
AGREED = (
    "hostname", "user", "port", "hostkeyalias", "proxycommand", "identityagent", "kexalgorithms",
)  # fmt: skip


@pytest.mark.parametrize("user", [None, "bob"])
@pytest.mark.parametrize("match", ["host gpu01", "host 10.0.0.1", "user alice", "user bob"])
def test_ssh_of_ours_applies_the_same_match_blocks_as_a_look_up(
    tmp_path: Path, match: str, user: str | None
) -> None:
    config = config_of(
        tmp_path,
        f"""\
Match {match}
  HostKeyAlias gpu01-key
  ProxyCommand nc %h %p
  IdentityAgent /run/agent.sock
  KexAlgorithms curve25519-sha256
Host gpu01
  HostName 10.0.0.1
  User alice
  Port 2201
""",
        has_ssh=True,
    )
    ssh, *arguments = ssh_argv(
        ResolvedRoute.find(Address("server1", "gpu01", user=user), config.environ), Timeouts()
    )
    given = [] if user is None else ["-l", user]
    by_hand = answers(ssh, *config.file_arguments(), *given)
    ours = answers(ssh, *arguments)
    assert {key: ours.get(key) for key in AGREED} == {key: by_hand.get(key) for key in AGREED}


def answers(ssh: str, *arguments: str) -> dict[str, str]:
    done = subprocess.run([ssh, "-G", *arguments, "gpu01"], check=True, capture_output=True)
    pairs = (line.partition(" ") for line in done.stdout.decode().splitlines())
    return {key: value for key, _, value in pairs}


@pytest.mark.parametrize("has_ssh", [True, False])
def test_a_chain_out_of_a_configuration(tmp_path: Path, has_ssh: bool) -> None:
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "more hosts").touch()
    config = config_of(tmp_path, CONFIG, has_ssh=has_ssh)
    front, gate, gpu = find_route(Address("server2", "gpu01"), config)
    assert front.proxy_command == "nc -X connect front 22"
    assert (gate.user, gate.endpoint) == ("bob", "gate.lab.example:2222")
    assert (gpu.user, gpu.endpoint) == ("alice", "gpu01.lab.example:2202")
    assert (gate.host_key_alias, gpu.host_key_alias) == ("gatekeeper", "cluster")
    ssh = tmp_path / ".ssh"
    assert gpu.identity_files[:2] == (ssh / "first-alice", ssh / "second")
    assert gpu.user_known_hosts == (ssh / "lab_hosts", ssh / "more hosts")


@pytest.mark.parametrize(
    ("lines", "what"),
    [
        ("Include more\n", "Include"),
        ("Host x\n  Include {home}/.ssh/mo*\n", "Include"),
        ("include ~/.ssh/more\n", "Include"),
        ('Match host x exec "true"\n', "Match exec"),
        ("Match canonical host x\n", "Match canonical"),
        ("Match tagged x\n", "Match tagged"),
        ("Match !localnetwork 10.0.0.0/8\n", "Match localnetwork"),
        ("CanonicalizeHostname yes\n", "CanonicalizeHostname"),
    ],
)
def test_setting_that_only_ssh_understands_is_named_where_ssh_is_missing(
    tmp_path: Path, lines: str, what: str
) -> None:
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "more").write_text("Host server2\n  HostName elsewhere\n")
    config = config_of(tmp_path, "# first\n" + lines.format(home=tmp_path), has_ssh=False)
    with pytest.raises(ConnectionFailed) as caught:
        find_route(Address("server2", "gpu01"), config)
    line = 2 + lines.startswith("Host x")
    assert f"{config.config_file}:{line} has {what}, " in caught.value.message
    assert "openssh-client" in caught.value.hint


def test_configuration_without_effect_needs_no_ssh(tmp_path: Path) -> None:
    """An `Include` of nothing, as Debian's own file has it; a comment."""
    text = "Include conf.d/*.conf\n# Match exec x\nMatch all\n  Port 2222\n"
    (hop,) = find_route(Address("s", "h"), config_of(tmp_path, text, has_ssh=False))
    assert hop.port == 2222


def test_match_exec_runs_in_the_given_environment(tmp_path: Path) -> None:
    """The command sees the environment that we were given, and is run by `ssh` itself."""
    text = f'Match host gpu01 exec "test -e {tmp_path}/at-home"\n  ProxyJump bastion\n'
    config = config_of(tmp_path, text, has_ssh=True)
    assert len(find_route(Address("s", "gpu01"), config)) == 1
    (tmp_path / "at-home").touch()
    assert len(find_route(Address("s", "gpu01"), config)) == 2


def test_a_match_that_hangs_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "_ANSWER_SECONDS", 0.3)
    config = config_of(tmp_path, 'Match exec "exec sleep 50"\n  Port 1\n', has_ssh=True)
    began = time.monotonic()
    with pytest.raises(ConnectionFailed) as caught:
        config.lookup(Address("", "gpu01"))
    assert time.monotonic() - began < 40
    assert caught.value.details == ("no answer for 0.3 seconds: does a `Match exec` hang?",)


def test_configuration_with_carriage_returns_is_read(sshd: LoopbackSshd, connect: Connect) -> None:
    """Files that were edited on Windows."""
    config = sshd.home / ".ssh" / "config"
    config.write_bytes(config.read_bytes().replace(b"\n", b"\r\n"))
    sshd.known_hosts.write_bytes(sshd.known_hosts.read_bytes().replace(b"\n", b"\r\n"))
    for path in (os.environ["PATH"], "/nonexistent"):
        connect(sshd, environ={**sshd.environ, "PATH": path})


@pytest.mark.parametrize("has_ssh", [True, False])
def test_the_first_identity_that_fits_of_several(
    sshd: LoopbackSshd, connect: Connect, has_ssh: bool
) -> None:
    """Two that are not there or do not fit, then the right one; the default is no option."""
    ssh = sshd.home / ".ssh"
    for name in ("other", "right"):
        argv = ["ssh-keygen", "-qt", "ed25519", "-N", "", "-f", str(ssh / name)]
        subprocess.run(argv, check=True)
    sshd.authorized_keys.write_text((ssh / "right.pub").read_text())
    with (ssh / "config").open("a") as config:
        config.write("  IdentityFile ~/.ssh/gone\n  IdentityFile ~/.ssh/other\n")
        config.write("  IdentityFile ~/.ssh/right\n  IdentitiesOnly yes\n")
    environ = sshd.environ if has_ssh else {**sshd.environ, "PATH": "/nonexistent"}
    session = connect(sshd, environ=environ).run(sh("echo in"))
    assert read_all(session) == b"in\n"
    assert sshd.log.count("Accepted publickey") == 1
