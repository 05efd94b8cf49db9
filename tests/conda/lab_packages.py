"""Packages with everything that makes a conda environment hard to copy.

lab-text      the prefix in text: a script's shebang, JSON, an activate script
lab-native    the prefix in ELF: a program whose RPATH names it, and which does not
              start (exit 127) if the RPATH leads nowhere
lab-cli       noarch python with a console script
lab-links     symlinks (relative, dangling, to a directory), two names for one file
lab-names     blanks, newline, quotes, globs, Unicode, a 250-byte name
lab-modes     read-only, private, group-writable, executable; an empty file
lab-data      a 5 MB file, half of it incompressible
lab-variant   versions 1.0 and 2.0, for tests that change one package
"""

from __future__ import annotations

import json
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.conda.interpreter import patchelf
from tests.conda.package import PLACEHOLDER, Entry, Package, symlink, text

DATA_FILE_BYTES = 5_000_000

ODD_NAMES = (
    "with blank",
    " leading and trailing ",
    "new\nline",
    "tab\there",
    "-rf",
    'quote\'s "double" `back`',
    "back\\slash",
    "star*question?[bracket]{brace}",
    "$HOME;&|<>!#~%",
    "composed-\u00e9",
    "decomposed-e\u0301",
    "日本語-😀",
    ".hidden",
    "x" * 250,
)


def lab_packages() -> Iterator[Package]:
    yield _text()
    yield _native()
    yield _cli()
    yield _links()
    yield _names()
    yield _modes()
    yield _data()
    yield from (_variant(version) for version in ("1.0", "2.0"))


def _text() -> Package:
    settings = {"data_dir": f"{PLACEHOLDER}/share/lab", "python": f"{PLACEHOLDER}/bin/python"}
    where = f"#!{PLACEHOLDER}/bin/python\nimport sys\nprint(sys.prefix)\n"
    entries = [
        text("bin/lab-where", where, 0o755),
        text("etc/lab/settings.json", json.dumps(settings, indent=2) + "\n"),
        text("etc/conda/activate.d/lab.sh", f'export LAB_HOME="{PLACEHOLDER}/share/lab"\n'),
        text("etc/conda/deactivate.d/lab.sh", "unset LAB_HOME\n"),
        text("share/lab/license.txt", "A text file without a prefix.\n"),
    ]
    return Package("lab-text", "1.0", entries, depends=["python"])


def _native() -> Package:
    """Return a package of two ELF files of this machine, renamed, so as to need no compiler."""
    with tempfile.TemporaryDirectory() as scratch:
        library, program = Path(scratch, "library"), Path(scratch, "program")
        shutil.copy(_mapped_library("libm.so.6"), library)
        patchelf("--set-soname", "liblab.so.1", library)
        shutil.copy(shutil.which("getent") or "/usr/bin/getent", program)
        patchelf("--add-needed", "liblab.so.1", program)
        patchelf("--force-rpath", "--set-rpath", f"{PLACEHOLDER}/lib", program)
        entries = [
            Entry("bin/lab-native", program.read_bytes(), 0o755),
            Entry("lib/liblab.so.1.0", library.read_bytes(), 0o755),
            symlink("lib/liblab.so.1", "liblab.so.1.0"),
            symlink("lib/liblab.so", "liblab.so.1"),
        ]
    return Package("lab-native", "1.0", entries)


def _mapped_library(name: str) -> Path:
    import math  # noqa: F401  (maps the library, if nothing else has)

    for line in Path("/proc/self/maps").read_text().splitlines():
        path = Path(line.split(maxsplit=5)[-1])
        if path.name == name:
            return path
    raise RuntimeError(f"no {name} in this process: the tests' native package needs glibc")


def _cli() -> Package:
    dist_info = "lab_cli-1.0.dist-info"
    main = 'import sys\n\n\ndef main() -> None:\n    print("lab-cli", sys.prefix)\n'
    contents = {
        "lab_cli/__init__.py": '__version__ = "1.0"\n',
        "lab_cli/main.py": main,
        f"{dist_info}/METADATA": "Metadata-Version: 2.1\nName: lab-cli\nVersion: 1.0\n",
        f"{dist_info}/INSTALLER": "conda\n",
    }
    record = f"{dist_info}/RECORD"
    contents[record] = "".join(f"{path},,\n" for path in (*contents, record))
    return Package(
        "lab-cli",
        "1.0",
        [text(f"site-packages/{path}", content) for path, content in contents.items()],
        build="pyh0_0",
        depends=["python"],
        noarch="python",
        entry_points=["lab-cli = lab_cli.main:main"],
    )


def _links() -> Package:
    shared = b"one file, two names\n"
    top = "share/links"
    entries = [
        Entry(f"{top}/first", shared),
        Entry(f"{top}/second", shared, kind="hardlink", target=f"{top}/first"),
        text(f"{top}/directory/file.txt", "in a directory\n"),
        symlink(f"{top}/relative", "directory/file.txt"),
        symlink(f"{top}/upwards", "../../share/links/first"),
        symlink(f"{top}/to-directory", "directory"),
        symlink(f"{top}/dangling", "nothing-here"),
    ]
    return Package("lab-links", "1.0", entries)


def _names() -> Package:
    entries = [text(f"share/names/{name}", f"{name}\n") for name in ODD_NAMES]
    return Package("lab-names", "1.0", entries, noarch="generic")


def _modes() -> Package:
    modes = {
        "read-only": 0o444,
        "private": 0o600,
        "owner-read-only": 0o400,
        "executable": 0o755,
        "group-writable": 0o664,
    }
    entries = [text(f"share/modes/{name}", f"{name}\n", mode) for name, mode in modes.items()]
    return Package("lab-modes", "1.0", [*entries, text("share/modes/empty", "")], noarch="generic")


def _data() -> Package:
    half = DATA_FILE_BYTES // 2
    data = random.Random(0).randbytes(half) + b"0123456789abcdef" * (half // 16)
    return Package("lab-data", "1.0", [Entry("share/lab/data.bin", data)], noarch="generic")


def _variant(version: str) -> Package:
    major = version.partition(".")[0]
    dist_info = f"site-packages/lab_variant-{version}.dist-info"
    entries = [
        text("site-packages/lab_variant/__init__.py", f'__version__ = "{version}"\n'),
        text("site-packages/lab_variant/same.py", "# the same in every version\n"),
        text(f"site-packages/lab_variant/only_in_{major}.py", f"# only in {version}\n"),
        text(
            f"{dist_info}/METADATA",
            f"Metadata-Version: 2.1\nName: lab-variant\nVersion: {version}\n",
        ),
        text(f"{dist_info}/INSTALLER", "conda\n"),
    ]
    return Package(
        "lab-variant", version, entries, build="pyh0_0", depends=["python"], noarch="python"
    )
