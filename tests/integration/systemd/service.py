"""What the tests of the service have in common: the inventory, and `envsync` in the machine."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.systemd.machine import HOME, USER, Machine
from tests.unit.cli.documented_json import check_document

ENVSYNC = str(Path(sys.executable).with_name("envsync"))
INVENTORY = f"{HOME}/.config/envsync/config.yaml"


def inventory(machine: Machine, *, push_to: str = "[server2, server3]", servers: str = "") -> None:
    """alice's: `myenv`, watched, which settles within a second."""
    machine.write_file(
        INVENTORY,
        f"""\
prefix: {machine.host.prefix}
servers:
  server1: {{}}
  server2: {{}}
  server3: {{}}
  {servers}
environments:
  myenv: {{source: server1, push_to: {push_to}, watch: true}}
watch: {{settle: 1s}}
""",
    )
    machine.run(["chown", "-R", f"{USER}:", f"{HOME}/.config"])


@dataclass(frozen=True, slots=True)
class Told:
    """One run of `envsync` with --json."""

    exit_code: int
    result: Any
    error: Any


def envsync(machine: Machine, *arguments: str, user: str = USER) -> Told:
    """`VARIABLE=value` arguments come first."""
    variables = [one for one in arguments if "=" in one]
    words = [one for one in arguments if "=" not in one]
    argv = ["env", "PYTHONDONTWRITEBYTECODE=1", *variables, ENVSYNC, *words, "--json"]
    done = machine.run(argv, user=user, check=False, timeout_seconds=50)
    document = check_document(done.stdout)
    return Told(done.returncode, document["result"], document["error"])
