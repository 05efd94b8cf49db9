"""The environments that the other tests rest on are real, odd, and each test's own."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from pathlib import Path

from tests.conda import (
    CondaPrefix,
    Template,
    change_package,
    install_wheel,
    installed_packages,
    make_many_files,
    uninstall,
)
from tests.conda.lab_packages import ODD_NAMES
from tests.conda.user_files import DEEP_PATH_BYTES
from tests.lab.lab import Lab


def _output(*argv: str | Path) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def _paths(environment: Path) -> list[bytes]:
    top = os.fsencode(environment)
    return [
        os.path.relpath(directory + b"/" + name, top)
        for directory, subdirectories, names in os.walk(top)
        for name in (*subdirectories, *names)
    ]


def test_environment_runs_where_it_stands(conda_prefix: CondaPrefix) -> None:
    environment = conda_prefix.environment()
    assert _output(environment / "bin/lab-cli") == f"lab-cli {environment}\n"
    assert _output(environment / "bin/lab-where") == f"{environment}\n"
    assert _output(environment / "bin/lab-native", "passwd", "root").startswith("root:")
    imports = "import ctypes, hashlib, json, lab_variant, sqlite3; print(lab_variant.__version__)"
    assert _output(conda_prefix.python(), "-c", imports) == "1.0\n"
    base = _output(conda_prefix.path / "bin/python", "-c", "import sys; print(sys.prefix)")
    assert base == f"{conda_prefix.path}\n"


def test_native_program_needs_its_prefix(conda_prefix: CondaPrefix) -> None:
    environment = conda_prefix.environment()
    moved = environment.rename(environment.with_name("elsewhere"))
    done = subprocess.run([moved / "bin/lab-native", "passwd"], capture_output=True, check=False)
    assert done.returncode == 127
    assert b"liblab.so.1" in done.stderr


def test_environment_holds_what_is_hard_to_copy(conda_prefix: CondaPrefix) -> None:
    environment = conda_prefix.environment()
    paths = _paths(environment)
    assert {b"share/names/" + name.encode() for name in ODD_NAMES} <= set(paths)
    assert b"var/lab/not-utf-8-\xe9" in paths
    assert max(map(len, paths)) > DEEP_PATH_BYTES - 400
    assert (environment / "var/lab/empty").is_dir()
    links = environment / "share/links"
    assert (links / "first").samefile(links / "second")
    assert (links / "dangling").is_symlink()
    assert not (links / "dangling").exists()
    assert (environment / "var/lab/absolute-into-the-environment").readlink() == (
        environment / "bin"
    )
    modes = {
        path.name: path.stat().st_mode & 0o7777
        for path in environment.glob("var/lab/*-*")
        if not path.is_symlink()
    }
    assert modes["world-writable"] == 0o666
    assert modes["open-directory"] == 0o777


def test_unpatched_files_share_their_inode_with_the_package_cache(
    conda_prefix: CondaPrefix,
) -> None:
    environment = conda_prefix.environment()
    [package] = conda_prefix.path.glob("pkgs/lab-data-1.0-*/share")
    assert (environment / "share/lab/data.bin").samefile(package / "lab/data.bin")
    for record_path in environment.glob("conda-meta/*.json"):
        for entry in json.loads(record_path.read_bytes())["paths_data"]["paths"]:
            expected = entry.get("sha256_in_prefix")
            if expected and entry["path_type"] != "softlink":
                content = (environment / entry["_path"]).read_bytes()
                assert hashlib.sha256(content).hexdigest() == expected, entry["_path"]


def test_copies_share_nothing_with_the_template(
    conda_template: Template, conda_prefix: CondaPrefix
) -> None:
    for relative in ("bin/python3", "envs/myenv/share/lab/data.bin"):
        assert not (conda_prefix.path / relative).samefile(conda_template.prefix / relative)


def test_change_of_a_package_changes_that_package_alone(conda_prefix: CondaPrefix) -> None:
    environment = conda_prefix.environment()
    before = installed_packages(environment)
    change_package(conda_prefix.path, "myenv", conda_prefix.channel, "lab-variant ==2.0")
    assert installed_packages(environment) == {**before, "lab-variant": "2.0"}
    show = "import lab_variant; print(lab_variant.__version__)"
    assert _output(conda_prefix.python(), "-c", show) == "2.0\n"
    history = (environment / "conda-meta/history").read_text()
    assert history.count("==> ") == 2
    assert "-lab-variant-1.0" in history


def test_a_wheel_comes_is_replaced_and_goes(conda_prefix: CondaPrefix) -> None:
    environment = conda_prefix.environment()
    before = set(_paths(environment))
    for version in ("1.0", "1.1"):
        install_wheel(environment, "tiny-wheel", version)
        show = "import importlib.metadata as m; print(m.version('tiny-wheel'))"
        assert _output(conda_prefix.python(), "-c", show) == f"{version}\n"
    new = set(_paths(environment)) - before
    assert any(path.endswith(b".pyc") for path in new)
    assert not any(b"1.0.dist-info" in path for path in new)
    uninstall(environment, "tiny-wheel")
    assert set(_paths(environment)) == before


def test_growth_is_deterministic_and_of_the_size_asked_for(
    conda_template: Template, tmp_path: Path
) -> None:
    digests = []
    for name in ("one", "two"):
        environment = conda_template.copy(tmp_path / name).environment()
        make_many_files(environment, entries=2200, total_bytes=80_000_000)
        digest = hashlib.sha256()
        for path in sorted(environment.glob("lib/python3.*/site-packages/bulk_*/**/*")):
            if path.is_file():
                digest.update(path.read_bytes())
        digests.append(digest.digest())
        paths = _paths(environment)
        size = sum((environment / os.fsdecode(path)).lstat().st_size for path in paths)
        assert abs(len(paths) - 2200) < 100
        assert abs(size - 80_000_000) < 8_000_000  # bytecode is of another size in each Python
        assert _output(environment / "bin/python", "-c", "import bulk_0000.module_07") == ""
    assert digests[0] == digests[1]


def test_environment_works_on_a_host_at_the_lab_prefix(conda_lab: Lab) -> None:
    controller = conda_lab.controller
    environment = f"{controller.prefix}/envs/myenv"
    assert controller.run([f"{environment}/bin/lab-cli"]).stdout == f"lab-cli {environment}\n"
    controller.change_package("lab-variant ==2.0")
    show = "import lab_variant; print(lab_variant.__version__)"
    assert controller.run([f"{environment}/bin/python", "-c", show]).stdout == "2.0\n"
    controller.install_wheel("tiny-wheel", "3.0")
    assert "tiny_wheel-3.0" in controller.run(["ls", "-R", f"{environment}/lib"]).stdout
    for target in conda_lab.targets:
        assert target.run([f"{target.prefix}/bin/python", "-c", "print(1)"]).stdout == "1\n"
        assert target.run(["ls", f"{target.prefix}/envs"]).stdout == ""
