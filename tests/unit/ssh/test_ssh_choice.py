"""Which implementation goes a way, by what is known beforehand."""

from __future__ import annotations

from pathlib import Path

import pytest

from envsync.ssh import choice_facts
from envsync.ssh.choice import HopFacts, reason_for_ssh
from envsync.ssh.host_keys import KnownHosts, KnownKey
from envsync.ssh.host_settings import HostSettings
from envsync.ssh.place import Place
from envsync.ssh.resolved_route import Hop, ResolvedRoute
from envsync.ssh.session import Address
from envsync.ssh.ssh_config import UserConfig

PLAIN = HopFacts("gpu02", identities=("ssh-ed25519",))


@pytest.mark.parametrize(
    ("hop", "reason"),
    [
        (PLAIN, None),
        (HopFacts("gpu02"), None),
        (HopFacts("gpu02", has_live_master=True), "a live ControlMaster for gpu02"),
        (HopFacts("gpu02", connects_by="BindAddress 10.0.0.5"), "BindAddress 10.0.0.5 for gpu02"),
        (HopFacts("gpu02", has_authority=True), "@cert-authority"),
        (HopFacts("gpu02", only_by_dns=True), "VerifyHostKeyDNS"),
        (HopFacts("gpu02", token_library="/usr/lib/p11.so"), "PKCS11Provider /usr/lib/p11.so"),
        (HopFacts("gpu02", identities=("sk-ssh-ed25519@openssh.com",)), "FIDO"),
        (HopFacts("gpu02", identities=("sk-ssh-ed25519@openssh.com", "ssh-rsa")), None),
        (HopFacts("gpu02", certificate_file="/k-cert.pub"), "certificate"),
        (HopFacts("gpu02", has_ticket=True), "Kerberos"),
    ],
)
def test_one_hop(hop: HopFacts, reason: str | None) -> None:
    found = reason_for_ssh([hop])
    assert found is None if reason is None else found is not None and reason in found


def test_any_hop_counts_and_is_named() -> None:
    bastion = HopFacts("bastion", has_live_master=True)
    assert reason_for_ssh([bastion, PLAIN]) == "a live ControlMaster for bastion"
    assert reason_for_ssh([PLAIN, PLAIN]) is None


def way(
    settings: HostSettings, environ: dict[str, str], known: KnownHosts | None = None
) -> ResolvedRoute:
    hop = Hop(Place("server2", settings), known or KnownHosts("gpu02"))
    return ResolvedRoute(Address("server2", "gpu02"), UserConfig(environ), (hop,))


def settings_of(config: str, home: Path) -> HostSettings:
    (home / ".ssh").mkdir(exist_ok=True)
    (home / ".ssh" / "config").write_text(config)
    from envsync.ssh.host_settings import Destination

    environ = {"HOME": str(home), "PATH": "/nonexistent"}
    return UserConfig(environ).lookup(Destination("gpu02"))


def facts_of(config: str, home: Path, **environ: str) -> HopFacts:
    settings = settings_of(config, home)
    [facts] = choice_facts.facts(
        way(settings, {"HOME": str(home), "PATH": "/nonexistent", **environ})
    )
    return facts


def test_kinds_of_identities(tmp_path: Path) -> None:
    config = "IdentityFile ~/.ssh/one\nIdentityFile ~/.ssh/two\nIdentityFile ~/.ssh/three\n"
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "one.pub").write_text("sk-ssh-ed25519@openssh.com AAAA me\n")
    assert facts_of(config, tmp_path).identities == ("sk-ssh-ed25519@openssh.com",)
    # Only the private half is there: nothing is known of it, so paramiko may try.
    (tmp_path / ".ssh" / "two").write_text("-----BEGIN\n")
    assert facts_of(config, tmp_path).identities == ("sk-ssh-ed25519@openssh.com", "unknown")


def test_tokens_and_certificates(tmp_path: Path) -> None:
    config = "PKCS11Provider /usr/lib/p11.so\nCertificateFile ~/.ssh/lab-cert.pub\n"
    facts = facts_of(config, tmp_path)
    assert (facts.token_library, facts.certificate_file) == ("/usr/lib/p11.so", None)
    certificate = tmp_path / ".ssh" / "lab-cert.pub"
    certificate.touch()
    assert facts_of(config, tmp_path).certificate_file == str(certificate)
    assert facts_of("PKCS11Provider none\n", tmp_path).token_library is None


@pytest.mark.parametrize(
    ("config", "connects_by"),
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
def test_how_the_connection_is_made(tmp_path: Path, config: str, connects_by: str | None) -> None:
    assert facts_of(config, tmp_path).connects_by == connects_by


def test_behind_a_jump_host_no_address_of_ours_counts(tmp_path: Path) -> None:
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "config").write_text("BindAddress 10.0.0.5\n")
    environ = {"HOME": str(tmp_path), "PATH": "/nonexistent"}
    facts = choice_facts.facts(
        ResolvedRoute.find(Address("server2", "gpu02", jump="bastion"), environ)
    )
    assert [hop.connects_by for hop in facts] == ["BindAddress 10.0.0.5", None]


@pytest.mark.parametrize(("said", "counts"), [("yes", True), ("ask", False), ("no", False)])
def test_a_key_that_the_dns_may_tell(tmp_path: Path, said: str, counts: bool) -> None:
    settings = settings_of(f"VerifyHostKeyDNS {said}\n", tmp_path)
    environ = {"HOME": str(tmp_path), "PATH": "/nonexistent"}
    [facts] = choice_facts.facts(way(settings, environ))
    assert facts.only_by_dns is counts
    known = KnownHosts("gpu02", (KnownKey("ssh-ed25519", b"key", "", "f:1"),))
    [facts] = choice_facts.facts(way(settings, environ, known))
    assert not facts.only_by_dns


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
def test_tickets(tmp_path: Path, allowed: str, name: str, found: bool) -> None:
    (tmp_path / "ticket").touch()
    config = f"GSSAPIAuthentication {allowed}\n"
    assert facts_of(config, tmp_path, KRB5CCNAME=name.format(tmp_path)).has_ticket is found


def test_klist_decides_where_it_exists(tmp_path: Path) -> None:
    klist = tmp_path / "bin" / "klist"
    klist.parent.mkdir()
    (tmp_path / "ticket").touch()
    environ = {"KRB5CCNAME": str(tmp_path / "ticket"), "PATH": f"{klist.parent}:/usr/bin:/bin"}
    for status, found in ((0, True), (1, False)):
        klist.write_text(f"#!/bin/sh\nexit {status}\n")
        klist.chmod(0o755)
        assert facts_of("GSSAPIAuthentication yes\n", tmp_path, **environ).has_ticket is found


def test_an_authority_and_a_key(tmp_path: Path) -> None:
    settings = settings_of("", tmp_path)
    authority = KnownKey("ssh-ed25519", b"ca", "@cert-authority", "f:1")
    revoked = KnownKey("ssh-ed25519", b"old", "@revoked", "f:2")
    key = KnownKey("ssh-ed25519", b"key", "", "f:3")
    environ = {"HOME": str(tmp_path), "PATH": "/nonexistent"}
    for keys, has in (((authority,), True), ((authority, revoked), True),
                      ((authority, key), True), ((revoked, key), False)):  # fmt: skip
        [facts] = choice_facts.facts(way(settings, environ, KnownHosts("gpu02", keys)))
        assert facts.has_authority is has


def test_a_control_path_where_nobody_answers(tmp_path: Path) -> None:
    (tmp_path / "cm").touch()
    for config in (f"ControlPath {tmp_path}/cm\n", f"ControlPath {tmp_path}/gone\n"):
        assert not facts_of(config, tmp_path).has_live_master


def test_a_file_that_may_not_be_looked_at_is_none(tmp_path: Path) -> None:
    """Here one of a name that no file can have: the superuser may look everywhere."""
    name = "x" * 300
    facts = facts_of(f"IdentityFile ~/.ssh/{name}\nCertificateFile ~/.ssh/{name}\n", tmp_path)
    assert (facts.identities, facts.certificate_file) == ((), None)
