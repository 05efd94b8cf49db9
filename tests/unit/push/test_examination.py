"""What `doctor` finds out about a server that it does not get into."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from envsync.agent.wire.server_operations import AskEnvironments
from envsync.errors import AgentFailed, AuthenticationRefused, EnvsyncError
from envsync.push.ends.end import LocalEnd
from envsync.push.queries import examination
from envsync.push.queries.examination import examine
from envsync.push.request.places import Place as ServerPlace
from envsync.ssh import connection_errors, refusals
from envsync.ssh.hop_place import HopPlace
from envsync.ssh.host_settings import HostSettings
from envsync.ssh.parsed_config import unreadable
from envsync.ssh.session import Link

SETTINGS = HostSettings("gpu02", "gpu02", "alice", 22, user_known_hosts=(Path("/known"),))
SERVER = HopPlace("gpu02", SETTINGS)
JUMP = HopPlace("gpu02", SETTINGS, is_jump=True)


@pytest.mark.parametrize(
    ("error", "reach"),
    [
        (refusals.authentication_refused(SERVER, [], [], []), (True, True)),
        (refusals.authentication_refused(JUMP, [], [], []), (None, None)),
        (refusals.too_many_keys(JUMP, []), (None, None)),
        (AuthenticationRefused("the identity file cannot be read"), (None, None)),
        (refusals.unknown_host_key(SERVER, "ed25519", "SHA256:x"), (True, False)),
        (refusals.changed_host_key(JUMP, "gpu02", "SHA256:x", [], ["/known"]), (None, None)),
        (refusals.revoked_host_key(JUMP, "SHA256:x", "known_hosts"), (None, None)),
        (refusals.known_hosts_unreadable("/known", ""), (None, None)),
        (connection_errors.unreached(SERVER, "does not answer"), (False, None)),
        (unreadable("gpu02", "line 1: Bad configuration option: prot"), (None, None)),
        (connection_errors.lost("gpu02"), (True, True)),
    ],
)
def test_error_of_a_jump_host_says_nothing_of_the_server(
    error: EnvsyncError, reach: tuple[bool | None, bool | None]
) -> None:
    def open_link() -> Link:
        raise error

    found = examine(ServerPlace("gpu02", "/conda", open_link), AskEnvironments("/conda", (), {}))
    assert (found.is_reached, found.is_key_known) == reach
    assert found.error is error


def test_disk_of_this_machine_that_hangs_does_not_hang_doctor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    is_back = threading.Event()
    monkeypatch.setattr(examination, "EXAMINATION_SECONDS", 0.1)
    monkeypatch.setattr(LocalEnd, "ask", lambda *_: is_back.wait(30))
    found = examine(ServerPlace("server1", "/conda"), AskEnvironments("/conda", (), {}))
    is_back.set()
    assert isinstance(found.error, AgentFailed)
    assert "did not finish within" in found.error.message
    assert (found.server, found.is_reached) == ("server1", True)
