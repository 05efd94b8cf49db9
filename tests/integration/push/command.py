"""The `envsync` command as a user of a lab's host runs it, and what it answered."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conda import ENVIRONMENT
from tests.lab.lab import LabHost
from tests.lab.namespaces import EnteredProcess

ENVSYNC = str(Path(sys.executable).with_name("envsync"))
TIMEOUT_SECONDS = 45.0


@dataclass(frozen=True, slots=True)
class Ran:
    """One finished command: its exit status and its JSON document."""

    exit_code: int
    document: Mapping[str, Any]
    stderr: str

    @property
    def error(self) -> Mapping[str, Any]:
        error: Mapping[str, Any] | None = self.document["error"]
        assert error is not None, f"it succeeded: {self.document}"
        return error

    @property
    def result(self) -> Mapping[str, Any]:
        result: Mapping[str, Any] | None = self.document["result"]
        assert result is not None, f"no result: {self.document}"
        return result

    @property
    def servers(self) -> list[Mapping[str, Any]]:
        """One document a server, in the order asked for."""
        return list(self.result["servers"])

    @property
    def server(self) -> Mapping[str, Any]:
        [server] = self.servers
        return server

    @property
    def said(self) -> str:
        """The error as one text, to look for words in."""
        error = self.error
        return "\n".join([error["message"], error["hint"], *error["details"]])


class Envsync:
    """Runs envsync on one host. Without an inventory: zero configuration, conda active.

    `options` are of the push command and go with every push.
    """

    def __init__(self, host: LabHost, source_tree: str | None = None) -> None:
        self.host = host
        self.environment = {"CONDA_PREFIX": host.prefix}
        self._command = [ENVSYNC]
        if source_tree is not None:
            # Another copy of the package, in the place of the one that is installed.
            self.environment["PYTHONPATH"] = source_tree
            self._command = [sys.executable, "-c", "from envsync.cli import main; main()"]

    def configure(self, text: str) -> None:
        """From now on with this inventory."""
        self.host.write_file("/run/lab/envsync.yaml", text)
        self.environment = {
            **{name: v for name, v in self.environment.items() if name != "CONDA_PREFIX"},
            "ENVSYNC_CONFIG": "/run/lab/envsync.yaml",
        }

    def run(self, *arguments: str, timeout_seconds: float = TIMEOUT_SECONDS) -> Ran:
        done = self.host.run(
            [*self._command, *arguments, "--json"],
            check=False,
            env=self.environment,
            timeout_seconds=timeout_seconds,
        )
        return _ran(done.returncode, done.stdout, done.stderr)

    def start(self, *arguments: str, stdin: int | None = None) -> EnteredProcess:
        """The command in the background; `finish` waits for it."""
        argv = [*self._command, *arguments, "--json"]
        return self.host.popen(argv, env=self.environment, stdin=stdin)

    def push(self, *arguments: str, expect: int = 0) -> Ran:
        """Push `myenv`; the exit status has to be `expect`."""
        ran = self.run("push", ENVIRONMENT, *arguments)
        assert ran.exit_code == expect, f"{ran.exit_code}: {ran.document}\n{ran.stderr}"
        return ran

    def ok(self, *arguments: str) -> Ran:
        ran = self.run(*arguments)
        assert ran.exit_code == 0, f"{ran.exit_code}: {ran.document}\n{ran.stderr}"
        return ran


def finish(process: EnteredProcess, timeout_seconds: float = TIMEOUT_SECONDS) -> Ran:
    """What a command in the background answered."""
    try:
        out, err = process.communicate(timeout=timeout_seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    return _ran(process.returncode, out.decode(), err.decode())


def _ran(exit_code: int, out: str, err: str) -> Ran:
    """A command that was killed leaves no document."""
    document: Mapping[str, Any] = json.loads(out) if out.strip() else {}
    return Ran(exit_code, document, err)
