"""What an unknown host key is told with."""

from __future__ import annotations

from pathlib import Path

import pytest

from envsync.ssh import refusals
from envsync.ssh.host_settings import HostSettings
from envsync.ssh.refusals import Place


@pytest.mark.parametrize("has_directory", [True, False])
def test_the_command_that_makes_a_key_known_works_for_who_never_used_ssh(
    tmp_path: Path, has_directory: bool
) -> None:
    directory = tmp_path / ".ssh"
    if has_directory:
        directory.mkdir()
    known = directory / "known_hosts"
    settings = HostSettings("gpu02", "gpu02", "alice", 22, user_known_hosts=(known,))
    command = refusals._accept(Place("gpu02", settings, is_direct=True))
    make = "" if has_directory else f"mkdir -m 700 {directory}; "
    assert command == f"{make}ssh-keyscan -H gpu02 >> {known}"


def test_it_makes_a_home_that_is_not_there_yet(tmp_path: Path) -> None:
    known = tmp_path / "home" / ".ssh" / "known_hosts"
    settings = HostSettings("gpu02", "gpu02", "alice", 22, user_known_hosts=(known,))
    command = refusals._accept(Place("gpu02", settings, is_direct=True))
    assert command.startswith(f"mkdir -p -m 700 {known.parent}; ")
