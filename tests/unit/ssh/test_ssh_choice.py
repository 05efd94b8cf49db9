"""Which implementation goes a way, by what is known beforehand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pytest

from envsync.ssh.choice import reason_for_ssh
from envsync.ssh.known_hosts import KnownHosts, KnownKey
from envsync.ssh.route import ResolvedRoute
from envsync.ssh.session import Address

KNOWN = KnownKey("ssh-ed25519", b"key", "", "f", "1")


def way(
    config: str,
    home: Path,
    jump: str | None = None,
    known: tuple[KnownKey, ...] = (KNOWN,),
    environ: Mapping[str, str] = MappingProxyType({}),
) -> ResolvedRoute:
    """The way to gpu02 of a user with this configuration, without an ssh command."""
    (home / ".ssh").mkdir(exist_ok=True)
    (home / ".ssh" / "config").write_text(config)
    environ = {"HOME": str(home), "PATH": "/nonexistent", **environ}
    route = ResolvedRoute.find(Address("server2", "gpu02", jump=jump), environ)
    hops = [replace(hop, known=KnownHosts(hop.settings.alias, known)) for hop in route.hops]
    return replace(route, hops=tuple(hops))


def reason(config: str, home: Path, **environ: str) -> str | None:
    return reason_for_ssh(way(config, home, environ=environ))


def test_plain_configuration_needs_no_system_ssh(tmp_path: Path) -> None:
    assert reason("", tmp_path) is None


def test_any_hop_counts_and_is_named(tmp_path: Path) -> None:
    route = way("", tmp_path, "bastion")
    bastion, gpu = route.hops
    live = replace(route, hops=(replace(bastion, users_socket=tmp_path / "cm"), gpu))
    assert reason_for_ssh(live) == "a live ControlMaster for bastion"
    assert reason_for_ssh(live.without_masters()) is None


def test_the_only_key_is_a_fido_key(tmp_path: Path) -> None:
    config = "IdentityFile ~/.ssh/one\nIdentityFile ~/.ssh/two\nIdentityFile ~/.ssh/three\n"
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "one.pub").write_text("sk-ssh-ed25519@openssh.com AAAA me\n")
    assert reason(config, tmp_path) == "the only key for gpu02 is a FIDO key"
    # Only the private half is there: nothing is known of it, so paramiko may try.
    (tmp_path / ".ssh" / "two").write_text("-----BEGIN\n")
    assert reason(config, tmp_path) is None


def test_tokens_and_certificates(tmp_path: Path) -> None:
    token = "the key for gpu02 is on a token (PKCS11Provider /usr/lib/p11.so)"
    assert reason("PKCS11Provider /usr/lib/p11.so\n", tmp_path) == token
    config = "PKCS11Provider none\nCertificateFile ~/.ssh/lab-cert.pub\n"
    assert reason(config, tmp_path) is None
    certificate = tmp_path / ".ssh" / "lab-cert.pub"
    certificate.touch()
    assert reason(config, tmp_path) == f"a certificate for gpu02 ({certificate})"


@pytest.mark.parametrize(
    ("config", "setting"),
    [
        ("", None),
        ("AddressFamily inet\n", None),
        ("BindAddress 10.0.0.5\n", "BindAddress 10.0.0.5"),
        ("BindInterface ib0\n", "BindInterface ib0"),
        ("ProxyUseFdpass yes\n", None),
        ("ProxyUseFdpass yes\nProxyCommand pass %h\n", "ProxyUseFdpass"),
        ("BindAddress 10.0.0.5\nProxyCommand nc %h %p\n", None),
    ],
)
def test_how_the_connection_is_made(tmp_path: Path, config: str, setting: str | None) -> None:
    assert reason(config, tmp_path) == (setting and f"{setting} for gpu02")


def test_behind_a_jump_host_no_address_of_ours_counts(tmp_path: Path) -> None:
    route = way("Host gpu02\n BindAddress 10.0.0.5\n", tmp_path, "bastion")
    assert reason_for_ssh(route) is None
    route = way("BindAddress 10.0.0.5\n", tmp_path, "bastion")
    assert reason_for_ssh(route) == "BindAddress 10.0.0.5 for bastion"


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ("VerifyHostKeyDNS yes\n", "known to the DNS only"),
        ("VerifyHostKeyDNS ask\n", None),
        ("VerifyHostKeyDNS no\n", None),
        ("KnownHostsCommand /bin/keys %H\n", "known to a KnownHostsCommand only"),
    ],
)
def test_a_key_that_is_known_elsewhere(tmp_path: Path, config: str, told: str | None) -> None:
    found = reason_for_ssh(way(config, tmp_path, known=()))
    assert found is None if told is None else told in (found or "")
    assert reason(config, tmp_path) is None


@pytest.mark.parametrize(
    ("allowed", "name", "found"),
    [
        ("yes", "FILE:{}/ticket", True),
        ("yes", "{}/ticket", True),
        ("yes", "FILE:{}/none", False),
        ("yes", "KEYRING:persistent:1000", True),
        ("no", "FILE:{}/ticket", False),
    ],
)
def test_ticket_of_kerberos_needs_the_system_ssh(
    tmp_path: Path, allowed: str, name: str, found: bool
) -> None:
    (tmp_path / "ticket").touch()
    config = f"GSSAPIAuthentication {allowed}\n"
    told = reason(config, tmp_path, KRB5CCNAME=name.format(tmp_path))
    assert told == ("a Kerberos ticket, and GSSAPIAuthentication for gpu02" if found else None)


def test_klist_decides_where_it_exists(tmp_path: Path) -> None:
    klist = tmp_path / "bin" / "klist"
    klist.parent.mkdir()
    (tmp_path / "ticket").touch()
    environ = {"KRB5CCNAME": str(tmp_path / "ticket"), "PATH": str(klist.parent)}
    for status, found in ((0, True), (1, False)):
        klist.write_text(f"#!/bin/sh\nexit {status}\n")
        klist.chmod(0o755)
        told = reason("GSSAPIAuthentication yes\n", tmp_path, **environ)
        assert (told is not None) is found


def test_an_authority_and_a_key(tmp_path: Path) -> None:
    authority = KnownKey("ssh-ed25519", b"ca", "@cert-authority", "f", "1")
    revoked = KnownKey("ssh-ed25519", b"old", "@revoked", "f", "2")
    for keys, has in (((authority,), True), ((authority, revoked), True),
                      ((authority, KNOWN), True), ((revoked, KNOWN), False)):  # fmt: skip
        told = reason_for_ssh(way("", tmp_path, known=keys))
        assert told == (
            "the host key of gpu02 may be certified by a @cert-authority" if has else None
        )


def test_a_control_path_where_nobody_answers(tmp_path: Path) -> None:
    (tmp_path / "cm").touch()
    for config in (f"ControlPath {tmp_path}/cm\n", f"ControlPath {tmp_path}/gone\n"):
        assert reason(config, tmp_path) is None


def test_a_file_that_may_not_be_looked_at_is_none(tmp_path: Path) -> None:
    """Here one of a name that no file can have: the superuser may look everywhere."""
    name = "x" * 300
    config = f"IdentityFile ~/.ssh/{name}\nCertificateFile ~/.ssh/{name}\n"
    assert reason(config, tmp_path) is None
