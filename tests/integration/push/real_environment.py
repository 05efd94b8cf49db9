"""What a real conda environment does on a host, and what conda knows of it."""

from __future__ import annotations

import json

from tests.integration.push.places import environment
from tests.lab.lab import LabHost


def runs(host: LabHost, variant: str = "1.0") -> None:
    """The environment works on a host: imports, console scripts, native programs."""
    top = f"{host.prefix}/envs/myenv"
    imports = "import hashlib, json, lab_cli, lab_variant, sqlite3; print(lab_variant.__version__)"
    assert host.run([f"{top}/bin/python", "-c", imports]).stdout == f"{variant}\n"
    assert host.run([f"{top}/bin/lab-cli"]).stdout == f"lab-cli {top}\n"
    assert host.run([f"{top}/bin/lab-where"]).stdout == f"{top}\n"
    assert host.run([f"{top}/bin/lab-native", "passwd", "root"]).stdout.startswith("root:")


def conda_records(host: LabHost) -> dict[str, object]:
    paths = environment(host).glob("conda-meta/*.json")
    return {path.name: json.loads(path.read_bytes()) for path in paths}
