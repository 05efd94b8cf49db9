"""The place on the way to a server that an error is about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from envsync.ssh import manual_commands
from envsync.ssh.host_settings import HostSettings


@dataclass(frozen=True, slots=True)
class HopPlace:
    """The place on the way to a server where something failed."""

    server: str
    settings: HostSettings
    is_jump: bool = False
    # False for a host that only its jump host can reach.
    is_direct: bool = True
    # The host to which a jump host was asked to forward.
    onward: str = ""
    # What was received before any SSH: a line for a person, empty if the server spoke SSH.
    heard: str = ""

    @property
    def subject(self) -> str:
        endpoint = self.settings.endpoint
        return f"the jump host {endpoint}" if self.is_jump else endpoint

    @property
    def ssh_command(self) -> str:
        """The command with which a person takes the same route by hand."""
        return manual_commands.ssh_command(self.settings.reached)

    def copy_command(self, tried: Sequence[str]) -> str:
        """Return the command that adds a public key there, of the keys that were `tried` a file."""
        reached = self.settings.reached
        offered = (file for file in self.settings.identity_files if str(file) in tried)
        key = reached.given_identity or next(offered, None)
        return manual_commands.copy_command(replace(reached, given_identity=key))
