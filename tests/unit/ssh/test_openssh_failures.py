"""The last words of the system's ssh, as its versions say them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from envsync.errors import (
    AuthenticationRefused,
    ConnectionFailed,
    EnvsyncError,
    HostKeyRefused,
)
from envsync.ssh.hop_place import HopPlace
from envsync.ssh.host_settings import HostSettings
from envsync.ssh.openssh_failures import HopLog, is_dropped, meaning, silence
from envsync.ssh.session import Timeouts

SERVER = HopPlace("server2", HostSettings("gpu", "gpu02", "alice", 2222))
BASTION = HopPlace("server2", HostSettings("bastion", "bastion", "alice", 22), is_jump=True)
KEY = "debug1: Server host key: ssh-ed25519 SHA256:abc"
OFFER = "debug1: Offering public key: /home/alice/my key ED25519 SHA256:def explicit"

CASES: list[tuple[str, type[EnvsyncError], str]] = [
    ((f"{KEY}\nNo ED25519 host key is known for [gpu02]:2222 and you have requested strict "
     "checking.\nHost key verification failed."), HostKeyRefused, "is not in known_hosts"),
    ((f"{KEY}\n@@@\n@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\n@@@\n"
     "Offending ED25519 key in /home/alice/.ssh/known_hosts:3\n"
     "Host key verification failed."), HostKeyRefused, "has changed"),
    ((f"{KEY}\n@       WARNING: REVOKED HOST KEY DETECTED!               @\n"
     "The ED25519 host key for gpu02 is marked as revoked.\n"
     "Host key verification failed."), HostKeyRefused, "revoked"),
    ((f"{KEY}\nHost key ED25519 SHA256:abc revoked by file /etc/ssh/revoked\n"
     "Host key verification failed."), HostKeyRefused, "revoked"),
    (f"{OFFER}\nalice@gpu02: Permission denied (publickey,password).",
     AuthenticationRefused, "does not let 'alice' in"),
    ((f"{OFFER}\nReceived disconnect from 10.0.0.2 port 2222:2: Too many authentication failures\n"
     "Disconnected from 10.0.0.2 port 2222"), AuthenticationRefused, "connection after 1 keys"),
    ("ssh: Could not resolve hostname gpu02: Name or service not known",
     ConnectionFailed, "there is no host named 'gpu02'"),
    ("ssh: connect to host gpu02 port 2222: Connection refused",
     ConnectionFailed, "refuses connections"),
    ("ssh: connect to host gpu02 port 2222: Connection timed out",
     ConnectionFailed, "does not answer"),
    ("ssh: connect to host gpu02 port 2222: No route to host",
     ConnectionFailed, "cannot be reached"),
    ("ssh: connect to host gpu02 port 2222: Network is unreachable",
     ConnectionFailed, "cannot be reached"),
    ("Connection timed out during banner exchange\nConnection to 10.0.0.2 port 2222 timed out",
     ConnectionFailed, "sends no SSH banner"),
    ("kex_exchange_identification: Connection closed by remote host",
     ConnectionFailed, "closed the connection"),
    (("kex_exchange_identification: read: Connection reset by peer\n"
     "Connection reset by 10.0.0.2 port 2222"), ConnectionFailed, "closed the connection"),
    ("ssh_exchange_identification: Connection closed by remote host",
     ConnectionFailed, "closed the connection"),
    ("banner exchange: Connection to UNKNOWN port 65535: Broken pipe",
     ConnectionFailed, "closed the connection"),
    ("Unable to negotiate with 10.0.0.2 port 2222: no matching cipher found. Their offer: 3des",
     ConnectionFailed, "no algorithm in common"),
    ("/home/alice/.ssh/config: line 3: Bad configuration option: foo",
     ConnectionFailed, "configuration cannot be read"),
    ("ssh: connect to host gpu02 port 2222: failure", ConnectionFailed, "cannot be reached"),
    ("words that nobody has heard before", ConnectionFailed, "cannot be reached by ssh"),
    ("", ConnectionFailed, "cannot be reached by ssh"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "kind", "message"), CASES)
def test_last_words_of_ssh_have_a_meaning(
    text: str, kind: type[EnvsyncError], message: str
) -> None:
    error = meaning([HopLog.of(SERVER, text.splitlines())], [])
    assert type(error) is kind
    assert message in error.message
    assert error.server == "server2"
    assert error.hint
    assert not any(line.startswith("debug") for line in error.details)


@pytest.mark.parametrize(
    "line",
    [
        "bind 10.9.9.9: Cannot assign requested address",
        "getaddrinfo: nowhere.invalid: Name or service not known",
        "getifaddrs: ib7: no suitable addresses",
    ],
)
def test_an_address_to_connect_from_that_is_not_there(line: str) -> None:
    place = replace(SERVER, settings=replace(SERVER.settings, bind_address="10.9.9.9"))
    said = [line, "ssh: connect to host gpu02 port 2222: failure"]
    error = meaning([HopLog.of(place, said)], [])
    assert "cannot be reached from the address that the ssh configuration names" in error.message
    assert "correct BindAddress" in error.hint
    assert error.details == (line,)
    # The other address of a name with two was asked, and it is what counts.
    asked = [line, "ssh: connect to host gpu02 port 2222: Connection refused"]
    assert "refuses connections" in meaning([HopLog.of(place, asked)], []).message


@pytest.mark.parametrize("interface", ["lo", None])
def test_an_interface_from_which_there_is_no_way(interface: str | None) -> None:
    place = replace(SERVER, settings=replace(SERVER.settings, bind_interface=interface))
    line = "ssh: connect to host gpu02 port 2222: Invalid argument"
    error = meaning([HopLog.of(place, [line])], [])
    assert ("ping" if interface is None else "correct BindAddress or BindInterface") in error.hint
    assert error.details == (line,)


def test_refusal_names_the_keys_that_were_tried() -> None:
    refused = meaning([HopLog.of(SERVER, CASES[4][0].splitlines())], [])
    assert refused.details == ("tried: /home/alice/my key",)
    assert refused.hint == "put your key there: ssh-copy-id -p 2222 alice@gpu"
    unknown = meaning([HopLog.of(SERVER, CASES[0][0].splitlines())], [])
    assert "its fingerprint: SHA256:abc" in unknown.details
    changed = meaning([HopLog.of(SERVER, CASES[1][0].splitlines())], [])
    assert "known:   ED25519 in /home/alice/.ssh/known_hosts:3" in changed.details
    assert "ssh-keygen -R '[gpu02]:2222' -f /home/alice/.ssh/known_hosts" in changed.hint


@pytest.mark.parametrize(
    ("suffix", "said", "locked"),
    [
        (" explicit", "", True),
        ("", "", True),
        (" agent", "", False),
        (" explicit authenticator", "", False),
        (" explicit", 'Authenticated using "publickey" with partial success.\n', False),
    ],
)
def test_a_key_that_would_be_accepted_needs_a_passphrase(
    suffix: str, said: str, locked: bool
) -> None:
    """Unless an agent or a device did not sign, or it was a first of two steps."""
    offer = f"{OFFER.removesuffix(' explicit')}{suffix}"
    accepted = offer.replace("Offering public key", "Server accepts key")
    denied = "alice@gpu02: Permission denied (publickey,password)."
    text = f"{offer}\n{accepted}\n{said}{denied}"
    refused = meaning([HopLog.of(SERVER, text.splitlines())], [])
    assert ("needs a passphrase, not tried: /home/alice/my key" in refused.details) is locked
    assert isinstance(refused, AuthenticationRefused)
    assert refused.lacks_usable_key is locked
    assert ("tried: /home/alice/my key" in refused.details) is not locked


@pytest.mark.parametrize("is_accepted", [True, False])
def test_a_key_that_ssh_cannot_read_needs_no_passphrase(is_accepted: bool) -> None:
    """It has a wrong mode, is damaged, or only its public half is here. ssh says so."""
    accepted = OFFER.replace("Offering public key", "Server accepts key")
    why = 'Load key "/home/alice/my key": bad permissions'
    denied = "alice@gpu02: Permission denied (publickey)."
    text = f"{OFFER}\n{accepted}\n{why}\n{denied}" if is_accepted else f"{why}\n{denied}"
    refused = meaning([HopLog.of(SERVER, text.splitlines())], [])
    assert refused.details == ("tried: /home/alice/my key (cannot be used: bad permissions)",)
    assert refused.hint == (
        "see what is wrong with that key: ssh-keygen -y -f '/home/alice/my key'"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ssh: connect to host bastion port 22: Connection refused", "the jump host bastion"),
        (("channel 0: open failed: connect failed: Connection refused\n"
         "stdio forwarding failed"), "the jump host bastion cannot reach gpu02:2222"),
    ],
)  # fmt: skip
def test_the_jump_host_is_to_blame(text: str, message: str) -> None:
    after = HopLog.of(SERVER, ["kex_exchange_identification: Connection closed by remote host"])
    error = meaning([HopLog.of(BASTION, text.splitlines()), after], [])
    assert message in error.message


def test_a_proxy_command_is_heard() -> None:
    error = meaning([HopLog.of(SERVER, [])], ["nc: command not found"])
    assert "nc: command not found" in error.details


@pytest.mark.parametrize(
    ("accepted", "kind", "detail"),
    [
        ("Offering public key", ConnectionFailed, "Authorized users only."),
        ("Server accepts key", AuthenticationRefused, "it says: Authorized users only."),
    ],
)
def test_a_banner_explains_a_closed_connection_only_after_the_right_key(
    accepted: str, kind: type[EnvsyncError], detail: str
) -> None:
    """Else the server may be restarting, and the banner may be another host's."""
    lines = [
        "debug1: SSH2_MSG_NEWKEYS received",
        OFFER.replace("Offering public key", accepted),
        "Connection closed by 10.0.0.2 port 2222",
    ]
    jump = HopLog.of(BASTION, ["debug1: Authentication succeeded (publickey)."])
    error = meaning([jump, HopLog.of(SERVER, lines)], ["Authorized users only."])
    assert type(error) is kind
    assert "during the login" in error.message
    assert detail in error.details


def test_dropped_ssh_is_recognized_from_its_last_words() -> None:
    dropped = HopLog.of(SERVER, ["kex_exchange_identification: Connection closed by remote host"])
    refused = HopLog.of(SERVER, ["alice@gpu02: Permission denied (publickey)."])
    assert is_dropped([dropped], [])
    assert not is_dropped([refused], [])
    closed = "Connection closed by 10.0.0.2 port 2222"
    assert is_dropped([HopLog.of(SERVER, [closed])], [])
    assert not is_dropped([HopLog.of(SERVER, ["debug1: SSH2_MSG_NEWKEYS received", closed])], [])
    penalty = "debug1: kex_exchange_identification: banner line 0: Not allowed at this time"
    punished = HopLog.of(SERVER, [penalty, *dropped.messages])
    assert not is_dropped([punished], [])
    assert "blocks this address" in meaning([punished], []).message
    crowding = penalty.replace("Not allowed at this time", "Exceeded MaxStartups")
    crowded = HopLog.of(SERVER, [crowding, *dropped.messages])
    assert is_dropped([crowded], [])
    assert not is_dropped([HopLog.of(BASTION, []), dropped], [])


def test_silence_of_ssh_names_the_step_it_was_at() -> None:
    authenticated = HopLog.of(BASTION, ["debug1: Authenticated to bastion ([10.0.0.1]:22)."])
    begun = HopLog.of(SERVER, ["debug1: SSH2_MSG_NEWKEYS received"])
    late = silence([authenticated, begun], Timeouts(), 60)
    assert late.message == "gpu02:2222 did not finish the authentication within 30 seconds"
    early = silence([HopLog.of(BASTION, []), HopLog.of(SERVER, [])], Timeouts(), 60)
    assert early.message == "the jump host bastion did not finish the handshake within 60 seconds"
