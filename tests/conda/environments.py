"""Makes real conda environments from a local channel, as conda does.

Call `build_channel` first, then `create_base`, `create_environment` and `change_package`. All
work on real paths: for a host of the lab, run them there.
"""

from __future__ import annotations

import datetime as dt
import json
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.conda.interpreter import python_package
from tests.conda.lab_packages import lab_packages

CHECKOUT = Path(__file__).resolve().parents[2]

BASE_SPECS = ("python",)
ENVIRONMENT_SPECS = (
    "python",
    "lab-text",
    "lab-native",
    "lab-cli",
    "lab-links",
    "lab-names",
    "lab-modes",
    "lab-data",
    "lab-variant ==1.0",
)


def build_channel(channel: Path) -> None:
    """Write and index all packages, unless the channel has an index."""
    if (channel / "noarch" / "repodata.json").exists():
        return
    subdir = platform_subdir()
    for package in (python_package(), *lab_packages()):
        package.write(channel, subdir)
    _rattler({"index": str(channel)})


def platform_subdir() -> str:
    machine = platform.machine()
    return "linux-64" if machine == "x86_64" else f"linux-{machine}"


def create_base(prefix: Path, channel: Path) -> None:
    """Install base into `prefix`, and make `prefix/pkgs` and `prefix/envs`."""
    create(prefix, channel, BASE_SPECS, package_cache=prefix / "pkgs")
    (prefix / "envs").mkdir(exist_ok=True)


def create_environment(
    prefix: Path, name: str, channel: Path, specs: Sequence[str] = ENVIRONMENT_SPECS
) -> Path:
    """Install `prefix/envs/name` with hard links into `prefix/pkgs`."""
    environment = prefix / "envs" / name
    create(environment, channel, specs, package_cache=prefix / "pkgs")
    return environment


def create(environment: Path, channel: Path, specs: Sequence[str], *, package_cache: Path) -> None:
    records = _install(environment, channel, specs, package_cache)
    added = [f"+{record['stem']}" for record in records]
    _complete(environment, f"conda create --prefix {environment}", added, specs)


def change_package(prefix: Path, name: str, channel: Path, spec: str) -> None:
    """Install another version of one package: `change_package(p, "myenv", c, "lab-variant ==2.0")`.

    All other packages stay as they are. The history is written as conda does.
    """
    environment = prefix / "envs" / name
    before = installed_packages(environment)
    changed = re.split(r"[ =<>!]", spec, maxsplit=1)[0]
    kept = [f"{package} =={version}" for package, version in before.items() if package != changed]
    _install(environment, channel, [*kept, spec], prefix / "pkgs")
    after = installed_packages(environment)
    gone = [
        f"-{package}-{before[package]}"
        for package in before
        if before[package] != after.get(package)
    ]
    come = [
        f"+{package}-{after[package]}" for package in after if after[package] != before.get(package)
    ]
    _complete(environment, f"conda install --prefix {environment} {spec}", gone + come, [spec])


def installed_packages(environment: Path) -> dict[str, str]:
    """Return the versions of packages by name, from conda-meta."""
    records = [json.loads(path.read_bytes()) for path in environment.glob("conda-meta/*.json")]
    return {record["name"]: record["version"] for record in records}


def _install(
    environment: Path, channel: Path, specs: Sequence[str], package_cache: Path
) -> list[dict[str, str]]:
    package_cache.mkdir(parents=True, exist_ok=True)
    records: list[dict[str, str]] = _rattler(
        {
            "channel": str(channel),
            "environment": str(environment),
            "package_cache": str(package_cache),
            "specs": list(specs),
        }
    )
    _complete_package_cache(channel, package_cache, records)
    return records


def _rattler(order: Mapping[str, Any]) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "tests.conda.rattler_process"],
        input=json.dumps(order),
        capture_output=True,
        text=True,
        cwd=CHECKOUT,
        timeout=120,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"rattler failed ({done.returncode}) on {order}:\n{done.stderr}")
    return json.loads(done.stdout)


def _complete_package_cache(
    channel: Path, package_cache: Path, records: Sequence[Mapping[str, str]]
) -> None:
    """Add what conda keeps and rattler does not: the archives and their origins."""
    for record in records:
        archive = package_cache / record["file_name"]
        if not archive.exists():
            shutil.copyfile(channel / record["subdir"] / record["file_name"], archive)
            information = package_cache / record["stem"] / "info"
            (information / "repodata_record.json").write_text(record["document"])
            with (package_cache / "urls.txt").open("a") as urls:
                urls.write(f"{record['url']}\n")
    shutil.rmtree(package_cache / "cache", ignore_errors=True)


def _complete(
    environment: Path, command: str, changes: Sequence[str], specs: Sequence[str]
) -> None:
    """Add to the history, which makes a directory an environment, and undo rattler's habits."""
    now = dt.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M:%S")
    lines = [f"==> {now} <==", f"# cmd: {command}", *sorted(changes)]
    lines.append(f"# update specs: {list(specs)!r}")
    metadata = environment / "conda-meta"
    with (metadata / "history").open("a") as history:
        history.write("\n".join(lines) + "\n")
    for record in metadata.glob("*.json"):
        record.chmod(0o644)
    (environment / "CACHEDIR.TAG").unlink(missing_ok=True)
