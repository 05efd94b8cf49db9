"""The command `envsync` on a host, with an inventory of the lab's servers."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from typing import Any

from tests.lab.host import Host
from tests.support.documented_json import check_document

INVENTORY = """\
prefix: {prefix}
servers:
  server1: {{}}
  server2: {{groups: [all]}}
  server3: {{groups: [all]}}
environments:
  myenv: {{source: server1, push_to: ["@all"]}}
"""


class Envsync:
    """The command `envsync` on a host, with an inventory until `forget_inventory` is called."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._file = f"{host.home()}/.config/envsync/config.yaml"
        host.write_file(self._file, INVENTORY.format(prefix=host.prefix))

    def forget_inventory(self) -> None:
        self._host.path(self._file).unlink()

    def __call__(
        self, *arguments: str, status: int = 0, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run the command; fail the test if its exit status is not `status`."""
        done = self._host.run(["envsync", *arguments], check=False, timeout_seconds=60, env=env)
        assert done.returncode == status, done.stdout + done.stderr
        return done

    def json(
        self, *arguments: str, status: int = 0, env: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """Run the command with `--json`; return its document, checked against docs/json.md."""
        done = self(*arguments, "--json", status=status, env=env)
        assert done.stderr == ""
        document = check_document(done.stdout)
        assert document["exit_code"] == status
        return document
