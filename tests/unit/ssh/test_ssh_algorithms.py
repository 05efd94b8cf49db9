"""What paramiko may use is what the ssh configuration allows."""

from __future__ import annotations

import pytest
from paramiko.ssh_exception import IncompatiblePeer

from envsync.ssh.algorithms import allowed

CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr", "aes256-ctr")


@pytest.mark.parametrize(
    ("configured", "left"),
    [
        (None, CIPHERS),
        ("3des-cbc,aes256-ctr,aes256-gcm@openssh.com", (CIPHERS[1], CIPHERS[3])),
        ("-aes128*", (CIPHERS[1], CIPHERS[3])),
        ("-aes128-ctr,aes256-ctr", CIPHERS[:2]),
        ("+3des-cbc", CIPHERS),
        ("^aes256-ctr", CIPHERS),
    ],
)
def test_a_list_of_the_configuration(configured: str | None, left: tuple[str, ...]) -> None:
    assert allowed(CIPHERS, "Ciphers", configured) == left


@pytest.mark.parametrize(
    ("configured", "left"),
    [
        ("curve25519-sha256", ("curve25519-sha256@libssh.org",)),
        # OpenSSH before 9.9: what it has in place of the one that it does not know.
        (
            "sntrup761x25519-sha512@openssh.com,curve25519-sha256@libssh.org",
            ("mlkem768x25519-sha256", "curve25519-sha256@libssh.org"),
        ),
        ("ecdh-sha2-nistp256", ("ecdh-sha2-nistp256",)),
    ],
)
def test_names_that_mean_the_same(configured: str, left: tuple[str, ...]) -> None:
    own = ("mlkem768x25519-sha256", "curve25519-sha256@libssh.org", "ecdh-sha2-nistp256")
    assert allowed(own, "KexAlgorithms", configured) == left


def test_configuration_that_allows_no_algorithm_leaves_it_to_ssh() -> None:
    """As with a server that has nothing in common: the system's ssh is tried next."""
    with pytest.raises(IncompatiblePeer, match="Ciphers of the ssh configuration"):
        allowed(CIPHERS, "Ciphers", "chacha20-poly1305@openssh.com")
