"""Calls `systemctl`, for the system's systemd or the user's own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from envsync.errors import ServiceFailed

_QUESTION_SECONDS = 20.0
_START_SECONDS = 120.0
_LOG_LINES = 8


class Systemctl:
    """One systemd. Every call has a timeout, and raises `ServiceFailed` after it."""

    def __init__(self, environ: Mapping[str, str], *, of_user: bool) -> None:
        self.of_user = of_user
        self._scope = ("--user",) if of_user else ()
        self._environ = {**environ, "LC_ALL": "C.UTF-8", "SYSTEMD_COLORS": "0"}
        if of_user:
            # Under `su` and `sudo -u` it is unset, although the user's systemd may run.
            self._environ.setdefault("XDG_RUNTIME_DIR", f"/run/user/{os.geteuid()}")

    def runs(self) -> bool:
        if not self.of_user:
            return Path("/run/systemd/system").is_dir()
        try:
            return self._systemctl("show-environment").returncode == 0
        except ServiceFailed:
            return False

    def do(self, verb: str, *units: str) -> None:
        """Run `systemctl VERB UNIT...`; if it fails, raise `ServiceFailed` with its messages."""
        done = self._systemctl(verb, *units, timeout_seconds=_START_SECONDS)
        if done.returncode != 0:
            raise self._failure(f"`{self.shown(verb, *units)}` failed", done.stderr, units)

    def property(self, unit: str, name: str) -> str:
        """Return a unit's property as `systemctl show` prints it; empty if unset or unreadable."""
        return self._systemctl("show", f"--property={name}", "--value", unit).stdout.strip()

    def shown(self, *arguments: str) -> str:
        """Return the command line that a person would type."""
        sudo = "" if self.of_user else "sudo "
        return " ".join([f"{sudo}systemctl", *self._scope, *arguments])

    def _failure(self, message: str, stderr: str, units: Sequence[str]) -> ServiceFailed:
        details = stderr.strip().splitlines()
        for unit in units:
            argv = ["journalctl", "--no-pager", "--output=cat", f"--lines={_LOG_LINES}"]
            argv += [f"--user-unit={unit}" if self.of_user else f"--unit={unit}"]
            details += self._run(argv, _QUESTION_SECONDS).stdout.splitlines()
        hint = "see more: " + self.shown("status", *units).removeprefix("sudo ")
        return ServiceFailed(message, details=details, hint=hint if units else "")

    def _systemctl(
        self, *arguments: str, timeout_seconds: float = _QUESTION_SECONDS
    ) -> subprocess.CompletedProcess[str]:
        return self._run(["systemctl", *self._scope, *arguments], timeout_seconds)

    def _run(self, argv: Sequence[str], timeout_seconds: float) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(
                argv,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
                timeout=timeout_seconds,
            )
        except FileNotFoundError:
            raise ServiceFailed(
                f"there is no `{argv[0]}` command here",
                hint="without systemd, `envsync daemon` runs in a terminal",
            ) from None
        except subprocess.TimeoutExpired:
            raise ServiceFailed(
                f"`{' '.join(argv)}` did not answer within {timeout_seconds:.0f} s",
                hint="see what it waits for: " + self.shown("list-jobs"),
            ) from None
