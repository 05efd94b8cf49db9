"""Nobody is believed to be a server without proof, on any hop."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from envsync.errors import ConnectionFailed, HostKeyRefused
from envsync.ssh.fabric_link import FabricLink
from envsync.ssh.session import Address
from tests.integration.ssh.logins import no_attempt_to_log_in, other_key
from tests.lab.loopback_sshd import LoopbackSshd

Connect = Callable[..., FabricLink]


def fingerprint(key: Path) -> str:
    done = subprocess.run(
        ["ssh-keygen", "-l", "-f", f"{key}.pub"], capture_output=True, check=True, text=True
    )
    return done.stdout.split()[1]


@pytest.fixture
def stranger(tmp_path: Path) -> Iterator[LoopbackSshd]:
    with LoopbackSshd(tmp_path, known=False) as sshd:
        yield sshd


@pytest.fixture(params=["with-ssh", "without-ssh"])
def environ(request: pytest.FixtureRequest, sshd: LoopbackSshd) -> dict[str, str]:
    """Both ways to read configuration and known_hosts."""
    if request.param == "with-ssh":
        return sshd.environ
    return {**sshd.environ, "PATH": "/nonexistent"}


def test_known_host_key_is_accepted(
    sshd: LoopbackSshd, connect: Connect, environ: dict[str, str]
) -> None:
    reached = connect(sshd, environ=environ).reached
    assert (reached.user, reached.hostname, reached.port) == (sshd.user, "127.0.0.1", sshd.port)


def test_unknown_host_key_is_refused(stranger: LoopbackSshd, connect: Connect) -> None:
    with pytest.raises(HostKeyRefused) as caught:
        connect(stranger)
    assert caught.value.server == stranger.name
    assert f"ssh-keyscan -H -p {stranger.port} 127.0.0.1 >> " in caught.value.hint
    assert str(stranger.known_hosts) in caught.value.hint
    assert f"its fingerprint: {fingerprint(stranger.host_keys[0])}" in caught.value.details
    assert no_attempt_to_log_in(stranger)
    assert stranger.known_hosts.read_text() == "", "nothing may be added"


def test_the_hint_for_an_unknown_key_works(stranger: LoopbackSshd, connect: Connect) -> None:
    with pytest.raises(HostKeyRefused) as caught:
        connect(stranger)
    command = caught.value.hint.partition("then: ")[2]
    subprocess.run(command, shell=True, check=True, capture_output=True)
    assert "|1|" in stranger.known_hosts.read_text()
    connect(stranger)


def test_changed_host_key_is_refused(
    sshd: LoopbackSshd, connect: Connect, environ: dict[str, str], tmp_path: Path
) -> None:
    sshd.known_hosts.write_text(f"[127.0.0.1]:{sshd.port} {other_key(tmp_path)}\n")
    with pytest.raises(HostKeyRefused, match="has changed") as caught:
        connect(sshd, environ=environ)
    assert "ssh-keygen -R" in caught.value.hint
    assert any(fingerprint(sshd.host_keys[0]) in line for line in caught.value.details)
    assert any(f"{sshd.known_hosts}:1" in line for line in caught.value.details)
    assert no_attempt_to_log_in(sshd)


def test_changed_to_another_type(sshd: LoopbackSshd, connect: Connect, tmp_path: Path) -> None:
    sshd.known_hosts.write_text(f"[127.0.0.1]:{sshd.port} {other_key(tmp_path, 'rsa')}\n")
    with pytest.raises(HostKeyRefused, match="has changed"):
        connect(sshd)


def test_revoked_host_key_is_refused(
    sshd: LoopbackSshd, connect: Connect, environ: dict[str, str]
) -> None:
    (line,) = sshd.host_key_lines()
    with sshd.known_hosts.open("a") as file:
        file.write(f"@revoked * {line.partition(' ')[2]}\n")
    with pytest.raises(HostKeyRefused, match="revoked"):
        connect(sshd, environ=environ)
    assert no_attempt_to_log_in(sshd)


def test_host_key_in_a_revocation_list_is_refused(
    sshd: LoopbackSshd, connect: Connect, tmp_path: Path
) -> None:
    config = sshd.home / ".ssh" / "config"
    config.write_text(config.read_text() + f"Host *\n  RevokedHostKeys {tmp_path}/revoked\n")
    (tmp_path / "revoked").write_text(other_key(tmp_path) + "\n")
    connect(sshd)
    (tmp_path / "revoked").write_text(Path(f"{sshd.host_keys[0]}.pub").read_text())
    with pytest.raises(HostKeyRefused, match="revoked"):
        connect(sshd)
    (tmp_path / "revoked").unlink()
    with pytest.raises(HostKeyRefused, match="revoked"):
        connect(sshd)


def test_binary_revocation_list(sshd: LoopbackSshd, connect: Connect, tmp_path: Path) -> None:
    config = sshd.home / ".ssh" / "config"
    config.write_text(config.read_text() + f"Host *\n  RevokedHostKeys {tmp_path}/krl\n")
    other_key(tmp_path)
    revoke = ["ssh-keygen", "-q", "-k", "-f", str(tmp_path / "krl")]
    subprocess.run([*revoke, tmp_path / "other_ed25519.pub"], check=True, capture_output=True)
    connect(sshd)
    subprocess.run([*revoke, f"{sshd.host_keys[0]}.pub"], check=True, capture_output=True)
    with pytest.raises(HostKeyRefused, match="revoked"):
        connect(sshd)


def test_lines_that_break_paramikos_own_loader(
    sshd: LoopbackSshd, connect: Connect, environ: dict[str, str], tmp_path: Path
) -> None:
    good = sshd.known_hosts.read_text()
    sshd.known_hosts.write_text(
        f"@cert-authority *.example {other_key(tmp_path)}\n"
        f"@revoked * {other_key(tmp_path)}\n"
        f"# comment\n\nnonsense\nhost ssh-ed25519 not-base64!\n{good}"
    )
    connect(sshd, environ=environ)


def test_hashed_name_in_known_hosts_is_found(
    sshd: LoopbackSshd, connect: Connect, environ: dict[str, str]
) -> None:
    subprocess.run(["ssh-keygen", "-H", "-f", sshd.known_hosts], check=True, capture_output=True)
    assert "127.0.0.1" not in sshd.known_hosts.read_text()
    connect(sshd, environ=environ)


def test_pattern_in_known_hosts_is_found(
    sshd: LoopbackSshd, connect: Connect, environ: dict[str, str]
) -> None:
    (line,) = sshd.host_key_lines()
    sshd.known_hosts.write_text(f"[127.0.0.*]:{sshd.port},!x {line.partition(' ')[2]}\n")
    connect(sshd, environ=environ)


def test_host_key_that_matches_one_of_several_of_its_type_is_accepted(
    sshd: LoopbackSshd, connect: Connect, environ: dict[str, str], tmp_path: Path
) -> None:
    good = sshd.known_hosts.read_text()
    sshd.known_hosts.write_text(f"[127.0.0.1]:{sshd.port} {other_key(tmp_path)}\n{good}")
    connect(sshd, environ=environ)


@pytest.mark.parametrize("kind", ["rsa", "ecdsa", "ed25519"])
def test_the_known_key_is_asked_for(tmp_path: Path, connect: Connect, kind: str) -> None:
    with LoopbackSshd(tmp_path, host_key_types=("ed25519", "ecdsa", "rsa")) as sshd:
        lines = [line for line in sshd.host_key_lines() if kind in line.split()[1]]
        sshd.known_hosts.write_text("\n".join(lines) + "\n")
        connect(sshd)


def test_host_key_is_looked_up_by_its_alias(
    sshd: LoopbackSshd, connect: Connect, environ: dict[str, str]
) -> None:
    (line,) = sshd.host_key_lines()
    sshd.known_hosts.write_text(f"gpu-cluster {line.partition(' ')[2]}\n")
    config = sshd.home / ".ssh" / "config"
    config.write_text(config.read_text() + "  HostKeyAlias gpu-cluster\n")
    connect(sshd, environ=environ)


def test_known_hosts_file_of_the_configuration_is_used(
    sshd: LoopbackSshd, connect: Connect, environ: dict[str, str]
) -> None:
    (sshd.home / ".ssh" / "elsewhere").write_text(sshd.known_hosts.read_text())
    sshd.known_hosts.unlink()
    config = sshd.home / ".ssh" / "config"
    config.write_text(config.read_text() + "  UserKnownHostsFile ~/.ssh/nowhere ~/.ssh/elsewhere\n")
    connect(sshd, environ=environ)


def test_a_known_hosts_file_that_cannot_be_searched(
    sshd: LoopbackSshd, connect: Connect, tmp_path: Path
) -> None:
    """It might hold a revocation."""
    keygen = tmp_path / "bin" / "ssh-keygen"
    keygen.parent.mkdir()
    keygen.write_text("#!/bin/sh\necho broken >&2\nexit 255\n")
    keygen.chmod(0o755)
    path = f"{keygen.parent}:{sshd.environ['PATH']}"
    with pytest.raises(HostKeyRefused, match="cannot be read") as caught:
        connect(sshd, environ={**sshd.environ, "PATH": path})
    assert caught.value.server == sshd.name


class TestJumpHost:
    @pytest.fixture
    def inner(self, tmp_path: Path, sshd: LoopbackSshd) -> Iterator[LoopbackSshd]:
        with LoopbackSshd(tmp_path, name="inner", home=sshd.home) as inner:
            yield inner

    @pytest.fixture
    def address(self) -> Address:
        return Address("server2", "inner", jump="loopback")

    def test_known_on_both_hops(
        self, inner: LoopbackSshd, address: Address, connect: Connect, environ: dict[str, str]
    ) -> None:
        connect(inner, address, environ=environ)

    @pytest.mark.parametrize("trick", ["unknown", "changed", "revoked"])
    def test_refused_on_the_jump_host(
        self, sshd: LoopbackSshd, inner: LoopbackSshd, address: Address, connect: Connect,
        tmp_path: Path, trick: str,
    ) -> None:  # fmt: skip
        name, _, key = sshd.host_key_lines()[0].partition(" ")
        line = {
            "unknown": "",
            "changed": f"{name} {other_key(tmp_path)}\n",
            "revoked": f"@revoked {name} {key}\n",
        }[trick]
        sshd.known_hosts.write_text(line + inner.host_key_lines()[0] + "\n")
        with pytest.raises(HostKeyRefused, match="the jump host") as caught:
            connect(inner, address)
        assert caught.value.server == "server2"
        assert no_attempt_to_log_in(sshd)
        assert no_attempt_to_log_in(inner)

    def test_refused_behind_the_jump_host(
        self, sshd: LoopbackSshd, inner: LoopbackSshd, address: Address, connect: Connect
    ) -> None:
        inner.known_hosts.write_text(sshd.host_key_lines()[0] + "\n")
        with pytest.raises(HostKeyRefused) as caught:
            connect(inner, address)
        assert "the jump host" not in caught.value.message
        assert "ssh-keyscan" not in caught.value.hint, "it cannot be reached from here"
        assert no_attempt_to_log_in(inner)

    def test_refused_on_the_way_of_the_system_ssh(
        self, sshd: LoopbackSshd, inner: LoopbackSshd, address: Address, connect: Connect
    ) -> None:
        link = connect(inner, address)
        argv = [*link.ssh_argv(), link.reached.alias, "echo", "in"]
        done = subprocess.run(argv, capture_output=True, check=False, text=True, env=sshd.environ)
        assert (done.returncode, done.stdout) == (0, "in\n"), done.stderr
        inner.known_hosts.write_text(inner.host_key_lines()[0] + "\n")
        done = subprocess.run(argv, capture_output=True, check=False, text=True, env=sshd.environ)
        assert done.returncode == 255
        assert "Host key verification failed" in done.stderr

    def test_jump_host_that_cannot_reach_the_server_is_named(
        self, inner: LoopbackSshd, address: Address, connect: Connect
    ) -> None:
        inner.stop()
        with pytest.raises(ConnectionFailed, match=r"the jump host .* cannot reach"):
            connect(inner, address)
