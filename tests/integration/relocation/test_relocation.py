"""Real environments at a shorter, an equal and a longer prefix, the original out of sight."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import conda_pack
import pytest

from envsync.errors import PreflightRefused
from envsync.push.steps.report import PushReport
from tests.conda.template import CondaPrefix, Template
from tests.conda.wheel import install_wheel
from tests.integration.push.tree_listing import contents, tree
from tests.integration.relocation.local_push import push
from tests.integration.relocation.odd_prefixes import (
    WIDE_ENCODINGS,
    add_local_program,
    add_odd_prefixes,
    wrong_hashes,
)

LEFT = {"sourceless.pyc", "pickle", *WIDE_ENCODINGS}
"""What nobody can rewrite, or not all of it."""

# Compiled or written here, so that nothing says how long the path may become.
NO_ROOM = ("bin/local-native", "var/lab/pickle")
# Debian 12's Python has no filters yet, and then takes all as it is.
_TRUSTED: dict[str, Any] = {"filter": "tar"} if hasattr(tarfile, "tar_filter") else {}


@dataclass(frozen=True, slots=True)
class Places:
    """A prefix with `myenv`, and paths for others: shorter, as long, and longer."""

    source: CondaPrefix
    top: Path

    def other(self, length: str) -> Path:
        name = {"shorter": "b", "equal": "b" * 20, "longer": "robert/much/longer/miniconda3"}
        return self.top / name[length]

    @contextlib.contextmanager
    def without(self, *names: str) -> Iterator[None]:
        """While these files are not in the environment."""
        aside = self.top / "aside"
        aside.mkdir()
        paths = [self.source.environment() / name for name in names]
        for path in paths:
            path.rename(aside / path.name)
        try:
            yield
        finally:
            for path in paths:
                (aside / path.name).rename(path)
            aside.rmdir()

    def hidden(self) -> contextlib.AbstractContextManager[None]:
        """While the source is not where it was."""
        return hidden(self.source.path)


@contextlib.contextmanager
def hidden(path: Path) -> Iterator[None]:
    away = path.with_name("hidden")
    path.rename(away)
    try:
        yield
    finally:
        away.rename(path)


@pytest.fixture(scope="module")
def places(conda_template: Template, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Places]:
    top = tmp_path_factory.mktemp("re")
    source = conda_template.copy(top / ("a" * 20))
    add_local_program(add_odd_prefixes(source))
    yield Places(source, top)
    shutil.rmtree(top)


@pytest.fixture(autouse=True)
def own_caches(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CACHE", "STATE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(places.top / name.lower()))


def runs(environment: Path, *, local: bool = True) -> None:
    """Imports, console scripts and native programs, each finding what is below its prefix."""
    said: dict[tuple[str, ...], str] = {
        ("bin/lab-cli",): f"lab-cli {environment}",
        ("bin/lab-where",): str(environment),
        ("bin/greeter",): str(environment),
        ("bin/zipped",): f"zipped {environment}",
        ("bin/lab-native", "passwd", "root"): "root:",
        ("bin/python", "-c", "import sysconfig as s; print(s.get_config_var('LIBDIR'))"): str(
            environment
        ),
    }
    if local:
        said["bin/local-native", "passwd", "root"] = "root:"
    for (program, *arguments), expected in said.items():
        done = subprocess.run(
            [environment / program, *arguments], capture_output=True, text=True, check=False
        )
        assert done.stdout.startswith(expected), (program, done)


def names(environment: Path, old: Path) -> set[bytes]:
    """Files outside `__pycache__` and symlinks that name a path, in any encoding."""
    spelled = [bytes(old), *map(str(old).encode, WIDE_ENCODINGS)]
    found = set()
    for path in environment.rglob("*"):
        if path.is_symlink():
            named = str(old) in str(path.readlink())
        else:
            content = path.read_bytes() if path.is_file() else b""
            named = any(spelling in content for spelling in spelled)
        if named and "__pycache__" not in path.parts:
            found.add(bytes(path.relative_to(environment)))
    return found


def told_as_left(report: PushReport) -> set[str]:
    """The names of the files of which a push says that they go on naming the old path."""
    [warning] = [warning for warning in report.warnings if "cannot be rewritten" in warning]
    return {path.rpartition("/")[2] for path in warning.split(", ")}


@pytest.mark.parametrize("length", ["shorter", "equal"])
def test_environment_runs_at_another_prefix(places: Places, length: str) -> None:
    source, there = places.source.environment(), places.other(length)
    report = push(places.source.path, there)
    assert report.outcome == "pushed"
    environment = there / "envs/myenv"
    with places.hidden():
        runs(environment)
    assert wrong_hashes(environment) == wrong_hashes(source) == []
    left = names(environment, source)
    assert {path.rpartition(b"/")[2].decode() for path in left} == LEFT
    assert f"other={there}/envs/myenv-other" in (environment / "lib/pkgconfig/lab.pc").read_text()
    assert told_as_left(report) == LEFT


@pytest.mark.parametrize("length", ["shorter", "equal", "longer"])
def test_relocated_environment_equals_an_installation_there(
    places: Places, length: str, conda_template: Template
) -> None:
    prefix = places.other(length)
    with places.without(*(NO_ROOM if length == "longer" else ())):
        push(places.source.path, prefix)
    if length == "longer":
        with places.hidden():
            runs(prefix / "envs/myenv", local=False)
    there = contents(tree(prefix / "envs/myenv"))
    installed = conda_template.copy(places.top / "installed", prefix=prefix)
    wanted = contents(tree(places.top / "installed/envs/myenv"))
    shutil.rmtree(places.top / "installed")
    assert installed.path == prefix
    assert {path for path in wanted if there.get(path) != wanted[path]} == set()


def test_environment_pushed_there_and_back_is_unchanged(places: Places) -> None:
    """And what came back is in step, as if it had never been away."""
    source, there = places.source, places.other("shorter")
    before = contents(tree(source.environment()))
    back = places.top / "back"
    push(source.path, there)
    places.source.path.rename(back)
    try:
        report = push(there, source.path)
        after = contents(tree(source.environment()))
    finally:
        shutil.rmtree(source.path)
        back.rename(source.path)
    assert report.outcome == "pushed"
    changed = {path for path in before if after.get(path) != before[path]}
    # Compiled again where it is first imported: what was compiled elsewhere names elsewhere.
    assert {path for path in changed if b"__pycache__" not in path} == set()


def test_push_to_another_prefix_sends_only_the_change(places: Places) -> None:
    source, there = places.source, places.other("shorter")
    push(source.path, there)
    assert push(source.path, there).outcome == "in-step"
    install_wheel(source.environment(), "tiny", "1.0")
    report = push(source.path, there)
    assert report.plan is not None
    assert report.plan.fetch_files < 12
    assert report.plan.fetch_bytes < 10_000
    assert told_as_left(report) == LEFT


def test_bytecode_of_a_rewritten_file_is_not_valid(places: Places) -> None:
    """With a path of the same length, its size and time are what they were."""
    there = places.other("equal")
    report = push(places.source.path, there)
    environment = there / "envs/myenv"
    missing = set(tree(places.source.environment())) - set(tree(environment))
    assert {b"__pycache__" in path for path in missing} == {True}
    assert report.compiled_left_out == len(missing)
    with places.hidden():
        done = subprocess.run(
            [environment / "bin/greeter"], capture_output=True, text=True, check=True
        )
    assert done.stdout == f"{environment}\n"


def test_under_another_name_in_the_same_prefix(places: Places) -> None:
    prefix = places.source.path
    push(prefix, prefix, name_there="other")
    there = prefix / "envs/other"
    with hidden(places.source.environment()):
        runs(there)
    text = (there / "lib/pkgconfig/lab.pc").read_text()
    assert f"conda={prefix}/bin/conda\n" in text
    assert f"other={prefix}/envs/myenv-other\n" in text
    shutil.rmtree(there)


@pytest.mark.parametrize("length", ["shorter", "longer"])
def test_where_a_link_leads_to_is_named_no_more_at_the_same_path(
    places: Places, length: str
) -> None:
    """A prefix that both servers know by one path, which is a link on the source."""
    source, there = places.source.environment(), places.other("equal")
    prefix = places.top / {"shorter": "p", "longer": "p" * 60}[length]
    prefix.symlink_to(places.source.path)
    report = push(prefix, there, seen_at=prefix)
    assert report.outcome == "pushed"
    assert push(prefix, there, seen_at=prefix).outcome == "in-step"
    prefix.unlink()
    prefix.symlink_to(there)
    with places.hidden():
        runs(prefix / "envs/myenv", local=length == "shorter")
    prefix.unlink()
    # What has no room for a link's longer path stays, and is told.
    no_room = {name.rpartition("/")[2] for name in NO_ROOM} if length == "longer" else set()
    left = {path.rpartition(b"/")[2].decode() for path in names(there / "envs/myenv", source)}
    assert left == LEFT | no_room
    assert told_as_left(report) >= left


def test_file_without_room_for_the_prefix_is_named_before_any_is_sent(places: Places) -> None:
    there = places.other("longer") / "further"
    with pytest.raises(PreflightRefused, match="2 files contain its path here") as refused:
        push(places.source.path, there)
    for name, detail in zip(NO_ROOM, refused.value.details, strict=True):
        assert detail.startswith(f"{name}: the binary has room for a path of ")
    assert [path.name for path in (there / "envs").rglob("trees/*")] == []


@pytest.mark.parametrize("length", ["shorter", "longer"])
def test_pip_goes_on_there(places: Places, length: str) -> None:
    """It lists what was there, and takes away a package with its script and its records."""
    there = places.other(length)
    with places.without(*(NO_ROOM if length == "longer" else ())):
        push(places.source.path, there, overwrite=True)
    environment = there / "envs/myenv"
    with places.hidden():
        assert "greeter==1.0" in pip(environment, "list", "--format=freeze").splitlines()
        if length == "longer":
            assert pip(environment, "check") == "No broken requirements found.\n"
        pip(environment, "uninstall", "-y", "greeter")
    assert not (environment / "bin/greeter").exists()
    assert not list(environment.glob("lib/python3.*/site-packages/greeter-*/RECORD"))


def pip(environment: Path, *arguments: str) -> str:
    """The pip of the tests, run by the environment's Python; nothing of its own is seen."""
    spec = importlib.util.find_spec("pip")
    assert spec is not None
    assert spec.origin is not None
    runner = Path(spec.origin).with_name("__pip-runner__.py")  # as `pip --python` does
    command = [str(environment / "bin/python"), str(runner), *arguments]
    options = {
        "PIP_NO_INPUT": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_CONFIG_FILE": os.devnull,
    }
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **options}
    )
    assert done.returncode == 0, done
    return done.stdout


def test_conda_pack_leaves_the_old_prefix_where_a_push_did_not(places: Places) -> None:
    """Of the same environment, unpacked there and put right by its own `conda-unpack`."""
    source, there = places.source.environment(), places.top / "packed"
    archive = places.top / "packed.tar"
    conda_pack.pack(
        prefix=str(source),
        output=str(archive),
        ignore_editable_packages=True,
        ignore_missing_files=True,
    )
    with tarfile.open(archive) as packed:
        packed.extractall(there, **_TRUSTED)
    archive.unlink()
    with places.hidden():
        unpack = [there / "bin/python", there / "bin/conda-unpack"]
        subprocess.run(unpack, capture_output=True, check=True)
    left = names(there, source)
    shutil.rmtree(there)
    missed = {b"bin/local-native", b"bin/zipped", b"var/lab/absolute-into-the-environment"}
    assert missed <= left
