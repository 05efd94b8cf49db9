"""What the tests of the service have in common: the inventory, and `envsync` in the machine."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.systemd.machine import HOME, USER, Machine

ENVSYNC = str(Path(sys.executable).with_name("envsync"))
INVENTORY = f"{HOME}/.config/envsync/config.yaml"


def inventory(machine: Machine, *, push_to: str = "[server2, server3]", more: str = "") -> None:
    """alice's: `myenv`, watched, which settles within a second."""
    machine.write_file(
        INVENTORY,
        f"""\
prefix: {machine.host.prefix}
servers: {{server1: {{}}, server2: {{}}, server3: {{}}}}
environments:
  myenv: {{source: server1, push_to: {push_to}, watch: true}}
{more}
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
    argv = ["env", "PYTHONDONTWRITEBYTECODE=1", ENVSYNC, *arguments, "--json"]
    done = machine.run(argv, user=user, check=False, timeout_seconds=50)
    document = json.loads(done.stdout)
    return Told(done.returncode, document["result"], document["error"])
