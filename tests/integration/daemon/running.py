"""A daemon on a host of the lab, as its user starts, asks and stops it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from envsync.daemon.control import ask
from tests.integration.push.command import ENVSYNC, Envsync
from tests.lab.lab import LabHost
from tests.lab.namespaces import EnteredProcess
from tests.support.processes import wait_until

if TYPE_CHECKING:
    from typing_extensions import Self

INVENTORY = "/run/lab/envsync.yaml"
LOG = "/run/lab/daemon.log"
WAIT_SECONDS = 40.0


def inventory(
    prefix: str,
    *,
    push_to: str = "[server2, server3]",
    settle: str = "300ms",
    rescan: str = "1h",
    more: str = "",
) -> str:
    """`myenv` of server1, watched, which settles quickly."""
    return f"""\
prefix: {prefix}
servers:
  server1: {{}}
  server2: {{}}
  server3: {{}}
environments:
  myenv:
    source: server1
    push_to: {push_to}
    watch: true
{more}
watch: {{settle: {settle}, rescan: {rescan}}}
"""


class Daemon:
    """`envsync daemon` on a host; its log is appended to over restarts."""

    def __init__(self, host: LabHost, text: str = "") -> None:
        self.host = host
        self.command = Envsync(host)
        self.command.configure(text or inventory(host.prefix))
        self._process: EnteredProcess | None = None
        self._log = host.path(LOG)
        self._log.unlink(missing_ok=True)

    def start(self, *arguments: str, ready: bool = True) -> EnteredProcess:
        # In between stands a shell, for the descriptor to be the host's own.
        argv = ["sh", "-c", 'exec "$@" 2>>"$0"', LOG, ENVSYNC, "daemon", *arguments]
        before = self.log().count(" ready: ")
        self._process = self.host.popen(
            argv,
            env=self.command.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        if ready:
            self.wait_log(" ready: ", times=before + 1)
        return self._process

    @property
    def process(self) -> EnteredProcess:
        assert self._process is not None
        return self._process

    @property
    def pid(self) -> int:
        """As the test process sees it."""
        [pid] = self.host.processes(rf"{ENVSYNC} daemon$")
        return pid

    def children(self) -> list[int]:
        return self.host.processes("envsync .*daemon work")

    def freeze_children(self) -> list[int]:
        """Wait for children, and stop them (SIGSTOP) as soon as they are there: their pids."""
        found: list[int] = []

        def freeze() -> bool:
            found[:] = self.children()
            for pid in found:
                os.kill(pid, signal.SIGSTOP)
            return bool(found)

        wait_until(freeze, "a child is there")
        return found

    def stop(self, sig: int = signal.SIGTERM, timeout_seconds: float = 20.0) -> int:
        """Its exit status; it has to end as soon as its unit asks for, and to leave no child."""
        self.process.send_signal(sig)
        try:
            status = self.process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it does not end\n{self.log()}\n{self._asleep()}") from None
        assert self.children() == []
        return status

    def _asleep(self) -> str:
        """What each process waits for, where the kernel tells."""
        waiting = []
        for pid in self.host.processes("envsync"):
            with contextlib.suppress(OSError):
                where = Path(f"/proc/{pid}/stack").read_text()
                waiting.append(f"{pid} {self.host.command_line(pid)}\n{where}")
        return "\n".join(waiting)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(20)

    def log(self) -> str:
        return self._log.read_text() if self._log.exists() else ""

    def wait_log(self, text: str, *, times: int = 1) -> None:
        with self._explained():
            wait_until(
                lambda: self.log().count(text) >= times,
                f"{text!r} {times} times in the log",
                timeout_seconds=WAIT_SECONDS,
            )

    def status(self) -> Mapping[str, Any]:
        """What `envsync status` shows: asked by itself only where no daemon answers."""
        state = self.host.path(f"{self.host.home()}/.local/state/envsync")
        for address in state.glob("on-*/control.json"):
            socket = self.host.path(json.loads(address.read_text())["socket"])
            with contextlib.suppress(OSError):
                answer = ask(socket, {"verb": "status"})
                if answer is not None:
                    return dict(answer["status"])
        return self.command.ok("status").result

    def source(self, name: str = "myenv") -> Mapping[str, Any]:
        [found] = [s for s in self.status()["environments"] if s["environment"] == name]
        assert isinstance(found, dict)
        return found

    def row(self, server: str, name: str = "myenv") -> Mapping[str, Any]:
        [found] = [row for row in self.source(name)["servers"] if row["server"] == server]
        assert isinstance(found, dict)
        return found

    def wait_state(self, server: str, state: str, revision: str = "") -> Mapping[str, Any]:
        """The row once it is in that state (at that revision)."""
        found: list[Mapping[str, Any]] = []

        def is_so() -> bool:
            rows = [row for row in self.source()["servers"] if row["server"] == server]
            found[:] = [row for row in rows if row["state"] == state]
            return bool(found) and revision in ("", found[0]["revision"])

        with self._explained():
            wait_until(is_so, f"{server} is {state}", timeout_seconds=WAIT_SECONDS)
        return found[0]

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except AssertionError as error:
            shown = json.dumps(self.status(), indent=1)
            raise AssertionError(f"{error}\n{self.log()}\n{shown}") from None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.stop()


def published(host: LabHost, name: str = "myenv") -> int:
    """How many versions were ever published on a host."""
    history = host.path(f"{host.prefix}/envs/.envsync/{name}/history.jsonl")
    lines = history.read_text().splitlines() if history.exists() else []
    return sum(json.loads(line)["event"] == "publish" for line in lines)


def recorded(host: LabHost, name: str = "myenv") -> list[str]:
    """The records of a host's versions, by their numbers."""
    records = host.path(f"{host.prefix}/envs/.envsync/{name}/generations")
    return sorted(path.stem for path in records.glob("*.json"))


def wait_spare(host: LabHost, *, timeout_seconds: float = WAIT_SECONDS) -> int:
    """The inode of the tree that was made ahead of the next push of `myenv` to a host."""
    note = host.path(f"{host.prefix}/envs/.envsync/myenv/staging.json")

    def document() -> dict[str, Any]:
        return dict(json.loads(note.read_text())) if note.exists() else {}

    wait_until(
        lambda: document().get("is_set_aside"),
        "a tree for the next push",
        timeout_seconds=timeout_seconds,
    )
    return int(document()["inode"])
