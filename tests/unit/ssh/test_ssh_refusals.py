"""What an unknown or revoked host key is told with."""

from __future__ import annotations

from pathlib import Path

import pytest
from paramiko import ECDSAKey, SSHClient

from envsync.errors import HostKeyRefused
from envsync.ssh import host_keys, programs, refusals
from envsync.ssh.hop_place import HopPlace
from envsync.ssh.host_keys import RefuseUnlessKnown
from envsync.ssh.host_settings import HostSettings
from envsync.ssh.known_hosts import KnownHosts
from envsync.ssh.openssh_failures import HopLog, meaning
from envsync.ssh.ssh_config import UserConfig


@pytest.mark.parametrize("has_directory", [True, False])
def test_the_command_that_makes_a_key_known_works_for_who_never_used_ssh(
    tmp_path: Path, has_directory: bool
) -> None:
    directory = tmp_path / ".ssh"
    if has_directory:
        directory.mkdir()
    known = directory / "known_hosts"
    settings = HostSettings("gpu02", "gpu02", "alice", 22, user_known_hosts=(known,))
    command = refusals._accept(HopPlace("gpu02", settings, is_direct=True))
    make = "" if has_directory else f"mkdir -m 700 {directory}; "
    assert command == f"{make}ssh-keyscan -H gpu02 >> {known}"


def test_command_to_accept_a_key_makes_a_missing_directory(tmp_path: Path) -> None:
    known = tmp_path / "home" / ".ssh" / "known_hosts"
    settings = HostSettings("gpu02", "gpu02", "alice", 22, user_known_hosts=(known,))
    command = refusals._accept(HopPlace("gpu02", settings, is_direct=True))
    assert command.startswith(f"mkdir -p -m 700 {known.parent}; ")


def test_a_home_that_this_user_may_not_look_into_is_no_bug(tmp_path: Path) -> None:
    """As after `sudo -u`, with the other's HOME; here of a name that no directory can have."""
    known = tmp_path / ("x" * 300) / ".ssh" / "known_hosts"
    settings = HostSettings("gpu02", "gpu02", "alice", 22, user_known_hosts=(known,))
    place = HopPlace("gpu02", settings)
    assert "ssh-keyscan" in refusals.unknown_host_key(place, "ssh-ed25519", "SHA256:x").hint
    log = HopLog.of(place, ["Host key for gpu02 is marked as revoked."])
    assert "@revoked lines of known_hosts" in meaning([log], []).hint


@pytest.mark.parametrize("keygen", ["#!/bin/sh\nexec sleep 60\n", "#!/no/such/interpreter\n"])
def test_a_list_of_revoked_keys_that_nobody_reads_refuses_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keygen: str
) -> None:
    """ssh-keygen hangs, or cannot be started."""
    monkeypatch.setattr(programs, "_ANSWER_SECONDS", 0.2)
    (tmp_path / "ssh-keygen").write_text(keygen)
    (tmp_path / "ssh-keygen").chmod(0o755)
    config = UserConfig({"HOME": str(tmp_path), "PATH": f"{tmp_path}:/usr/bin:/bin"})
    revoked = tmp_path / "krl"
    revoked.write_bytes(host_keys._KRL_MAGIC)
    settings = HostSettings("gpu02", "gpu02", "alice", 22, revoked_host_keys=revoked)
    policy = RefuseUnlessKnown(HopPlace("gpu02", settings), KnownHosts("gpu02"), config)
    with pytest.raises(HostKeyRefused, match="krl cannot be read") as caught:
        policy.missing_host_key(SSHClient(), "gpu02", ECDSAKey.generate())
    assert caught.value.server == "gpu02"
