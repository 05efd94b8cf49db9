"""Changes an environment as `pip install` does, without pip and without a real wheel."""

from __future__ import annotations

import base64
import hashlib
import subprocess
from collections.abc import Mapping
from pathlib import Path


def install_wheel(
    environment: Path, name: str, version: str, files: Mapping[str, bytes] | None = None
) -> None:
    """Install (or replace) the distribution `name`, with bytecode, RECORD and INSTALLER.

    `files` are contents by path below site-packages; by default one module with its version.
    """
    site_packages = next(environment.glob("lib/python3.*/site-packages"))
    module = name.replace("-", "_")
    uninstall(environment, name)
    dist_info = f"{module}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    contents = dict(files or {f"{module}/__init__.py": f'__version__ = "{version}"\n'.encode()})
    contents[f"{dist_info}/METADATA"] = metadata.encode()
    contents[f"{dist_info}/WHEEL"] = b"Wheel-Version: 1.0\nTag: py3-none-any\n"
    contents[f"{dist_info}/INSTALLER"] = b"pip\n"
    for path, data in contents.items():
        (site_packages / path).parent.mkdir(parents=True, exist_ok=True)
        (site_packages / path).write_bytes(data)
    compiled = _compile(environment, site_packages, [p for p in contents if p.endswith(".py")])
    lines = [f"{path},sha256={_digest(data)},{len(data)}" for path, data in contents.items()]
    lines += [f"{path},," for path in (*compiled, f"{dist_info}/RECORD")]
    (site_packages / dist_info / "RECORD").write_text("\n".join(lines) + "\n")


def uninstall(environment: Path, name: str) -> None:
    """Remove the files in the RECORD of a distribution; do nothing if it is not installed."""
    site_packages = next(environment.glob("lib/python3.*/site-packages"))
    for record in site_packages.glob(f"{name.replace('-', '_')}-*.dist-info/RECORD"):
        paths = [site_packages / line.rsplit(",", 2)[0] for line in record.read_text().splitlines()]
        for path in paths:
            path.unlink(missing_ok=True)
        for parent in sorted({path.parent for path in paths}, reverse=True):
            _remove_empty(parent, site_packages)


def _remove_empty(directory: Path, top: Path) -> None:
    if directory != top and directory.exists() and not any(directory.iterdir()):
        directory.rmdir()
        _remove_empty(directory.parent, top)


def _compile(environment: Path, site_packages: Path, sources: list[str]) -> list[str]:
    code = (
        "import py_compile, sys\n"
        "for path in sys.argv[1:]: print(py_compile.compile(path, doraise=True))\n"
    )
    done = subprocess.run(
        [environment / "bin" / "python", "-I", "-B", "-c", code, *sources],
        cwd=site_packages,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.split("\n")[:-1]


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
