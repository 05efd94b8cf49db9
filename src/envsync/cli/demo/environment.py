"""The demo's environment: a real one, made from what this machine has.

Its Python is a copy of the one that runs envsync (binary and standard library, sharing the
machine's C libraries), with the records that conda keeps. Its one package has the layout that pip
makes. Nothing is downloaded.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from envsync.conda.relocation import CannotRelocate, Move, Relocation
from envsync.errors import SourceRefused
from envsync.push.packing.record_correction import RewrittenFiles
from envsync.push.packing.regular_files import regular_files

PACKAGE = "demo_package"
SCRIPT = "demo-package"
EDIT = "# quick fix"
"""The line that a person in a hurry adds to the package on a server."""

_REWRITTEN_BYTES_MAX = 64 << 20
_LEFT_OUT = {
    "site-packages", "dist-packages", "test", "tests", "idlelib", "tkinter", "turtledemo",
    "ensurepip", "lib2to3",
}  # fmt: skip
_PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"

_SITECUSTOMIZE = """\
# Some distributions' Pythons look for packages elsewhere than in site-packages.
import os, site, sys
site.addsitedir(os.path.join(os.path.dirname(__file__), "site-packages"))
"""

_MODULE = '''\
"""Shows that the environment runs where it was pushed to."""

import sys

__version__ = "{version}"


def main():
    print(f"demo_package {{__version__}} from {{sys.prefix}}")
'''

_MAIN = f"from {PACKAGE} import main\n\nmain()\n"

# As conda and pip write it where a `#!` line cannot have the interpreter's path.
_SCRIPT = f"""\
#!/bin/sh
'''exec' "{{python}}" "$0" "$@"
' '''
import sys
from {PACKAGE} import main
sys.exit(main())
"""


class Size(NamedTuple):
    """The size of an environment."""

    files: int
    size_bytes: int


def make(path: Path) -> str:
    """Make the environment at a path that does not exist; return its description for a person."""
    library = Path("lib") / _PYTHON
    copied = [*_copy_python(path), *_copy_library(path, library)]
    (path / library / "site-packages").mkdir()
    sitecustomize = path / library / "sitecustomize.py"
    sitecustomize.unlink(missing_ok=True)
    sitecustomize.write_text(_SITECUSTOMIZE)
    files = sorted({*copied, f"{library}/sitecustomize.py"})
    version = ".".join(str(part) for part in sys.version_info[:3])
    _write_conda_records(path, version, files)
    return f"a copy of this machine's Python {version}, with conda's records"


def copy(environment: Path, path: Path) -> str:
    """Copy a user's environment, which is not touched; return a description for a person.

    What names the environment in files and links of the copy is replaced by the copy's path, but
    not in a binary without room for it.
    """
    done = subprocess.run(
        ["/bin/cp", "-a", "--reflink=auto", "--", str(environment), str(path)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode != 0:
        raise SourceRefused(
            f"{environment} cannot be copied", details=done.stderr.strip().splitlines()[-5:]
        )
    _relocate(path, Relocation([Move(os.fsencode(environment), os.fsencode(path))]))
    return f"a copy of {environment}"


def _relocate(top: Path, relocation: Relocation) -> None:
    """Replace the paths in files and links, except where there is no room, or no permission."""
    rewritten = RewrittenFiles(top, ())
    for name, size_bytes in list(regular_files(top)):
        if size_bytes <= _REWRITTEN_BYTES_MAX:
            with contextlib.suppress(CannotRelocate, PermissionError):
                rewritten.replace(top / name, relocation.rewrite)
    rewritten.correct_records()
    for directory, directories, names in os.walk(top):
        for link in (Path(directory, name) for name in (*directories, *names)):
            if link.is_symlink():
                with contextlib.suppress(PermissionError):
                    _relocate_link(link, relocation)


def _relocate_link(link: Path, relocation: Relocation) -> None:
    before = os.fsencode(link.readlink())
    target = relocation.link_target(before)
    if target != before:
        link.unlink()
        link.symlink_to(os.fsdecode(target))


def install(environment: Path, version: str) -> None:
    """Install `version` of the package in place of any other, and test it.

    Every file is written anew and renamed into place, as pip does. Raises `SourceRefused` if the
    environment has no Python or its Python does not run.
    """
    site_packages = _site_packages(environment)
    for other in site_packages.glob(f"{PACKAGE}-*.dist-info"):
        shutil.rmtree(other)
    python = environment / "bin" / "python"
    info = f"{PACKAGE}-{version}.dist-info"
    contents = {
        f"{PACKAGE}/__init__.py": _MODULE.format(version=version),
        f"{PACKAGE}/__main__.py": _MAIN,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: {version}\n",
        f"{info}/INSTALLER": "envsync demo\n",
        f"{info}/entry_points.txt": f"[console_scripts]\n{SCRIPT} = {PACKAGE}:main\n",
        f"../../../bin/{SCRIPT}": _SCRIPT.format(python=python),
    }
    contents[f"{info}/RECORD"] = _record(contents, info)
    for name, text in contents.items():
        _replace(site_packages / name, text)
    (environment / "bin" / SCRIPT).chmod(0o755)
    _run_python(environment, "-m", "compileall", "-qf", str(site_packages / PACKAGE))
    _run_python(environment, "-c", f"import {PACKAGE}; assert {PACKAGE}.__version__ == '{version}'")


def module_path(environment: Path) -> Path:
    """Return the path of the package's code, relative to the environment."""
    return _site_packages(environment).relative_to(environment) / PACKAGE / "__init__.py"


def measure(path: Path) -> Size:
    """Count the regular files below a directory and their bytes."""
    files = size_bytes = 0
    for directory, _, names in os.walk(path):
        for name in names:
            status = Path(directory, name).lstat()
            if stat.S_ISREG(status.st_mode):
                files += 1
                size_bytes += status.st_size
    return Size(files, size_bytes)


def _copy_python(path: Path) -> Iterator[str]:
    """Copy the interpreter, and its shared library if it has one; yield the paths."""
    (path / "bin").mkdir(parents=True)
    (path / "lib").mkdir()
    # This process's executable may be a virtual environment's link to the real one.
    executable = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
    shutil.copy2(executable, path / "bin" / _PYTHON)
    yield f"bin/{_PYTHON}"
    for name in ("python3", "python"):
        (path / "bin" / name).symlink_to(_PYTHON)
        yield f"bin/{name}"
    library = str(sysconfig.get_config_var("INSTSONAME") or "")
    for line in Path("/proc/self/maps").read_text(errors="replace").splitlines():
        mapped = Path(line[line.find("/") :]) if "/" in line else Path()
        if library and mapped.name == library:
            shutil.copy2(mapped, path / "lib" / library)
            yield f"lib/{library}"
            return


def _copy_library(path: Path, library: Path) -> Iterator[str]:
    """Copy the standard library without its tests and optional bytecode; yield the paths."""
    origin = sysconfig.get_path("stdlib", vars={"base": sys.base_prefix})
    for directory, directories, names in os.walk(origin):
        directories[:] = sorted(d for d in directories if _wanted_directory(d))
        inside = library / os.path.relpath(directory, origin)
        (path / inside).mkdir(parents=True, exist_ok=True)
        for name in names:
            file = Path(directory, name)
            if ".opt-" not in name and file.is_file() and os.access(file, os.R_OK):
                shutil.copy2(file, path / inside / name)
                yield str(inside / name)


def _wanted_directory(name: str) -> bool:
    return name not in _LEFT_OUT and not name.startswith("config-")


def _write_conda_records(path: Path, version: str, files: Sequence[str]) -> None:
    """Write `conda-meta` as conda leaves it after installing one package."""
    meta = path / "conda-meta"
    meta.mkdir()
    name = f"python-{version}-copied_0"
    document = {
        "name": "python", "version": version, "build": "copied_0", "build_number": 0,
        "channel": "envsync-demo", "subdir": "linux-64", "depends": [], "files": list(files),
    }  # fmt: skip
    (meta / f"{name}.json").write_text(json.dumps(document, indent=2) + "\n")
    (meta / "history").write_text(f"==> 2026-01-01 00:00:00 <==\n+envsync-demo::{name}\n")


def _site_packages(environment: Path) -> Path:
    directories = sorted(environment.glob("lib/python3.*/site-packages"))
    if not directories or not (environment / "bin" / "python").exists():
        raise SourceRefused(f"there is no Python in {environment}, which the demo needs")
    return directories[-1]


def _record(contents: dict[str, str], info: str) -> str:
    """Return pip's list of the files it installed, with their digests."""
    lines = []
    for name, text in contents.items():
        data = text.encode()
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        lines.append(f"{name},sha256={digest},{len(data)}\n")
    return "".join([*lines, f"{info}/RECORD,,\n"])


def _replace(file: Path, text: str) -> None:
    file.parent.mkdir(exist_ok=True)
    temporary = file.with_name(file.name + ".new")
    temporary.write_text(text)
    temporary.replace(file)


def _run_python(environment: Path, *arguments: str) -> None:
    done = subprocess.run(
        [str(environment / "bin" / "python"), "-I", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise SourceRefused(
            "the environment's Python does not run",
            hint="use an environment that does: envsync demo --env PATH",
            details=(done.stderr or done.stdout).strip().splitlines()[-5:],
        )
