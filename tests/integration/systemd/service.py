"""What the tests of the service have in common: the inventory, and `envsync` in the machine."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conda import ENVIRONMENT
from tests.lab.lab import LabHost
from tests.support.documented_json import check_document
from tests.systemd.machine import HOME, USER, Machine

ENVSYNC = str(Path(sys.executable).with_name("envsync"))
INVENTORY = f"{HOME}/.config/envsync/config.yaml"

# What `conda install` looks like to those who read /proc: only its environment says where.
_INSTALLER = """
import os, sys
environ = {"CONDA_PREFIX": sys.argv[1]}
code = "import time; print('here', flush=True); time.sleep(60)"
os.execve(sys.executable, ["conda", "-c", code, "install"], environ)
"""


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


def place(host: LabHost, name: str) -> str:
    return f"{host.prefix}/envs/{ENVIRONMENT}/{name}"


def write(machine: Machine, name: str, *, size_bytes: int = 20) -> None:
    """A file of alice's in the source, in a directory that is watched."""
    path = machine.host.path(place(machine.host, name))
    path.write_bytes(os.urandom(size_bytes))
    os.chown(path, machine.uid, machine.uid)


@contextlib.contextmanager
def installer(machine: Machine) -> Iterator[None]:
    """`conda install` is at work on `myenv` in another of alice's sessions, to its end."""
    environment = place(machine.host, "").rstrip("/")
    process = machine.popen(["python3", "-c", _INSTALLER, environment], user=USER)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        yield
        with machine.host.path(place(machine.host, "conda-meta/history")).open("a") as history:
            history.write("==> 2026-11-30 12:00:00 <==\n")
    finally:
        machine.run(["pkill", "-u", USER, "-f", "^conda -c"], check=False)
        process.communicate(timeout=10)


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
