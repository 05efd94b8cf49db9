"""Installs the conda command into prefixes, and makes channels, packages and wheels for it."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from tests.conda.environments import CHECKOUT, platform_subdir
from tests.conda.package import Entry, Package, text


def install_command(
    place: Path,
    kind: str = "conda",
    *,
    prefix: str = "",
    environment: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Put the command into a prefix's `condabin`, as conda's installer does.

    `place` is the prefix's path for this process, `prefix` for the command; empty if the same.
    """
    command = place / "condabin" / kind
    command.parent.mkdir(exist_ok=True)
    exports = "".join(f"export {name}='{value}'\n" for name, value in environment.items())
    command.write_text(
        f"#!/bin/sh\n{exports}export CONDA_TEST_PKGS='{prefix or place}/pkgs'\n"
        f"cd '{CHECKOUT}' && exec '{sys.executable}' -m tests.rebuild.conda_command {kind} \"$@\"\n"
    )
    command.chmod(0o755)


def write_channel(directory: Path, packages: Sequence[Package]) -> str:
    """Add packages to a channel in `directory`; return its URL."""
    for package in packages:
        package.write(directory, platform_subdir())
    subprocess.run(
        [sys.executable, "-m", "tests.conda.rattler_process"],
        input=f'{{"index": "{directory}"}}',
        text=True,
        cwd=CHECKOUT,
        check=True,
        stdout=subprocess.DEVNULL,
        timeout=60,
    )
    return directory.as_uri()


def remake_channel(directory: Path, packages: Sequence[Package]) -> None:
    """Replace all packages of a channel by these."""
    for archive in (*directory.glob("*/*.conda"), *directory.glob("*/repodata*")):
        archive.unlink()
    write_channel(directory, packages)


def pip_package() -> Package:
    """Return the pip of this interpreter as a conda package."""
    spec = importlib.util.find_spec("pip")
    assert spec is not None, "there is no pip beside the tests' own interpreter"
    assert spec.origin is not None
    top = Path(spec.origin).parent
    files = [path for path in top.rglob("*.py") if path.is_file()]
    files += [path for path in top.rglob("*") if path.suffix in (".pem", ".txt", ".typed")]
    entries = [
        Entry(f"site-packages/pip/{path.relative_to(top)}", path.read_bytes())
        for path in sorted(set(files))
    ]
    metadata = "Metadata-Version: 2.1\nName: pip\nVersion: 1.0\n"
    entries.append(text("site-packages/pip-1.0.dist-info/METADATA", metadata))
    return Package("pip", "1.0", entries, build="pyh0_0", depends=["python"], noarch="python")


def pin(version: str, build: str, depends: Sequence[str] = (), name: str = "lab-pin") -> Package:
    """Return a tiny package that needs no Python."""
    entries = [text(f"share/{name}/version.txt", f"{version} {build}\n")]
    return Package(name, version, entries, build=build, depends=depends)


def write_wheel(directory: Path, name: str, version: str) -> Path:
    """Write a wheel with a console script; return its path."""
    directory.mkdir(exist_ok=True)
    path = directory / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    contents = {
        f"{name}/__init__.py": f'__version__ = "{version}"\ndef main(): print("{version}")\n',
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[console_scripts]\n{name} = {name}:main\n",
    }
    contents[f"{info}/RECORD"] = "".join(f"{one},,\n" for one in (*contents, f"{info}/RECORD"))
    with zipfile.ZipFile(path, "w") as wheel:
        for member, content in contents.items():
            wheel.writestr(member, content)
    return path
