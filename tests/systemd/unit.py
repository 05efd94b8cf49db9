"""A service's unit in a machine, as systemctl and the journal show it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping

from tests.support.processes import wait_until
from tests.systemd.machine import USER, Machine

WAIT_SECONDS = 25.0
_POLL_SECONDS = 0.25


class ServiceUnit:
    """The unit `envsync@alice.service`, or with `of_user` alice's own `envsync.service`."""

    def __init__(self, machine: Machine, *, of_user: bool = False) -> None:
        self.machine = machine
        self.of_user = of_user
        self.name = "envsync.service" if of_user else f"envsync@{USER}.service"
        self._directory = f"/home/{USER}/.config/systemd/user" if of_user else "/etc/systemd/system"
        self._user = USER if of_user else "root"

    def systemctl(self, verb: str, *arguments: str, check: bool = True) -> str:
        """Run `systemctl VERB UNIT ARGUMENT...` and return its output."""
        scope = ["--user"] if self.of_user else []
        argv = ["systemctl", *scope, "--no-pager", verb, self.name, *arguments]
        return self.machine.run(argv, user=self._user, check=check).stdout

    def show(self, *names: str) -> Mapping[str, str]:
        lines = self.systemctl("show", *(f"--property={name}" for name in names)).splitlines()
        return dict(line.split("=", 1) for line in lines)

    def property(self, name: str) -> str:
        return self.show(name)[name]

    def journal(self) -> str:
        """Return all messages of the unit, and of systemd about it, in all boots."""
        field = "_SYSTEMD_USER_UNIT" if self.of_user else "_SYSTEMD_UNIT"
        about = "USER_UNIT" if self.of_user else "UNIT"
        wanted = [f"{field}={self.name}", "+", f"{about}={self.name}"]
        return self.machine.run(["journalctl", "--no-pager", "-o", "cat", *wanted]).stdout

    def entries(self, *fields: str) -> list[Mapping[str, str]]:
        """Return the journal entries of the unit's processes that have these `FIELD=value`."""
        field = "_SYSTEMD_USER_UNIT" if self.of_user else "_SYSTEMD_UNIT"
        wanted = [f"{field}={self.name}", *fields]
        done = self.machine.run(["journalctl", "--no-pager", "-o", "json", *wanted])
        return [json.loads(line) for line in done.stdout.splitlines()]

    def wait_active(self, *, restarts: int | None = None) -> None:
        def is_there() -> bool:
            found = self.show("ActiveState", "NRestarts")
            return found["ActiveState"] == "active" and (
                restarts is None or found["NRestarts"] == str(restarts)
            )

        self._wait(is_there, f"active after {restarts} restarts")

    def wait_status(self, pattern: str) -> str:
        """Wait until the status text matches `pattern`, and return the text."""
        found = ""

        def says() -> bool:
            nonlocal found
            found = self.property("StatusText")
            return re.search(pattern, found) is not None

        self._wait(says, f"the status says {pattern!r}")
        return found

    def wait_journal(self, text: str, *, times: int = 1) -> None:
        self._wait(lambda: self.journal().count(text) >= times, f"the journal says {text!r}")

    def override(self, text: str) -> None:
        """Add a drop-in for the test."""
        self.machine.write_file(self._override(), text)
        self._reload_units()

    def drop_override(self) -> bool:
        """Remove the drop-in; return whether there was one."""
        file = self.machine.path(self._override())
        if not file.exists():
            return False
        file.unlink()
        self._reload_units()
        return True

    def _override(self) -> str:
        return f"{self._directory}/{self.name}.d/90-tests.conf"

    def _reload_units(self) -> None:
        scope = ["--user"] if self.of_user else []
        self.machine.run(["systemctl", *scope, "daemon-reload"], user=self._user)

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        def is_so() -> bool:
            if condition():
                return True
            # Each poll starts a process or two, which would take CPU time from the service.
            time.sleep(_POLL_SECONDS)
            return False

        try:
            wait_until(is_so, what, timeout_seconds=WAIT_SECONDS)
        except AssertionError as error:
            said = self.systemctl("status", check=False)
            log = "\n".join(self.journal().splitlines()[-25:])
            raise AssertionError(f"{error}\n{said}\n{log}") from None
