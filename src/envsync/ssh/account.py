"""The account that this process runs as, and its home directory."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Home:
    """A user's home directory, and that in the password database, None for a user not in it."""

    path: Path
    account: Path | None

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Home:
        account = _account_home()
        return cls(Path(environ.get("HOME") or account or "/"), account)

    @property
    def differs(self) -> bool:
        """Whether OpenSSH's programs use another directory as the user's home."""
        return self.path != self.account

    def tilde(self, text: str) -> str:
        """Return a path with `~` or `~USER` expanded; that of an unknown user stays as it is."""
        if text == "~" or text.startswith("~/"):
            return str(self.path) + text[1:]
        return os.path.expanduser(text)  # noqa: PTH111 - not Path's, which raises

    def moved(self, text: str) -> str:
        """Return a known_hosts path under this home: `ssh -G` expanded its `~`, but not to HOME."""
        return text if self.account is None else self.moved_from(self.account, text)

    def moved_from(self, old: Path, text: str) -> str:
        """Return a path in `.ssh` of the home `old` as one in this home, others unchanged."""
        in_ssh = f"{old}/.ssh/"
        return f"{self.path}/.ssh/{text[len(in_ssh) :]}" if text.startswith(in_ssh) else text


def login_name() -> str:
    """Return the name that ssh logs in with where nothing else is configured; "" if none is known.

    A user who is not in the password database, as in a container, may say it.
    """
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return os.environ.get("LOGNAME") or os.environ.get("USER", "")


def _account_home() -> Path | None:
    """Return the home that the password database has for this user; None if it has no such user."""
    try:
        return Path(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError:
        return None


def how_to_get_ssh() -> str:
    """Return the step that gives this user an ssh command that runs."""
    if _account_home() is None:
        return f"add the uid {os.getuid()} to /etc/passwd: the ssh command runs for no other"
    return "install openssh-client on this machine"
