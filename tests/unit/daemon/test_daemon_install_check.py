"""What of an install that is not finished can be seen, and what is no sign of one."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from envsync.conda.busy import YOUNG_SECONDS
from envsync.daemon import install_check, unclaimed_files
from envsync.daemon.install_check import InstallCheck
from envsync.daemon.install_records import HISTORY_SECONDS, changed_seconds
from envsync.daemon.installer_runs import SLACK_SECONDS, InstallerRun
from envsync.daemon.rows import SourceRow
from envsync.daemon.triggers import Observation
from tests.support.processes import wait_until
from tests.support.pushes import NAME

PACKAGES = "lib/python3.11/site-packages"
HALF = "half is in no installed distribution"


@pytest.fixture
def top(tmp_path: Path) -> Path:
    """An environment with a package of conda and one of pip, both whole."""
    top = tmp_path / "envs" / NAME
    (top / "conda-meta").mkdir(parents=True)
    (top / "conda-meta/python-3.11-0.json").write_text("{}")
    (top / "conda-meta/numpy-1.0-0.json").write_text("{}")
    (top / "conda-meta/history").write_text(
        "==> 2026-01-01 00:00:00 <==\n+conda-forge/linux-64::python-3.11-0\n+numpy-1.0-0\n"
    )
    install(top, "pure", ["pure.py", "../../../bin/pure", "__pycache__/pure.cpython-311.pyc"])
    (top / PACKAGES / "__pycache__/pure.cpython-311.pyc").unlink()
    return top


def install(top: Path, name: str, files: list[str], installer: str = "pip") -> Path:
    info = top / PACKAGES / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    for path in files:
        (top / PACKAGES / path).parent.mkdir(parents=True, exist_ok=True)
        (top / PACKAGES / path).write_text("x")
    (info / "INSTALLER").write_text(f"{installer}\n")
    (info / "RECORD").write_text("".join(f"{path},,\n" for path in files))
    return info


def condas(top: Path, name: str, *files: str) -> None:
    """conda's record of a package that has brought these."""
    text = json.dumps({"name": name, "files": [f"{PACKAGES}/{file}" for file in files]})
    (top / f"conda-meta/{name}-1.0-0.json").write_text(text)
    with (top / "conda-meta/history").open("a") as history:
        history.write(f"+{name}-1.0-0\n")


def first_check(top: Path) -> InstallCheck:
    return InstallCheck(str(top), ())


def next_check(
    top: Path, check: InstallCheck, runs: Sequence[InstallerRun] | None = None
) -> InstallCheck:
    """That of a daemon which was started later, and knows what the check's did."""
    known = check.runs if runs is None else tuple(runs)
    row = SourceRow(NAME, installers=known, accepted_seconds=check.accepted_seconds)
    return InstallCheck(str(top), (), row)


def unfinished(top: Path) -> list[str]:
    return list(first_check(top).observe().unfinished)


def test_complete_install_shows_nothing(top: Path) -> None:
    assert unfinished(top) == []
    assert first_check(top).old_leftovers() == ()
    assert unfinished(top.parent / "none") == []


@pytest.mark.parametrize(
    "name",
    [
        f"{PACKAGES}/~umpy",
        f"{PACKAGES}/~umpy-1.dist-info",
        f"{PACKAGES}/numpy.c~",
        ".condatmp",
        "bin/tool.c~",
        "conda-meta/numpy-1.0-0.json.c~",
    ],
)
def test_remains_of_installers_are_named(top: Path, name: str) -> None:
    write(top / name / "METADATA")
    assert unfinished(top) == [f"an installer left {name}"]


def test_a_distribution_of_which_files_are_missing(top: Path) -> None:
    check = first_check(top)
    assert check.observe().unfinished == ()
    info = install(top, "half", ["half.py", "other.py"])
    (top / PACKAGES / "half.py").unlink()
    assert check.observe().unfinished == ("half-1.0 is installed in part: half.py is missing",)
    (top / PACKAGES / "other.py").unlink()
    [sign] = check.observe().unfinished
    assert sign == "half-1.0 is installed in part: half.py, other.py of its RECORD are missing"
    shutil.rmtree(info)
    assert check.observe().unfinished == ()


def test_a_distribution_without_record(top: Path) -> None:
    (install(top, "half", ["half.py"]) / "RECORD").unlink()
    assert unfinished(top) == ["half-1.0 is installed in part: it has no RECORD"]
    (install(top, "other", ["other.py"], installer="conda") / "RECORD").unlink()
    stripped = install(top, "numpy", ["numpy.py"])
    (stripped / "RECORD").unlink()
    (stripped / "INSTALLER").unlink()
    condas(top, "numpy", "numpy-1.0.dist-info/METADATA")
    assert unfinished(top) == ["half-1.0 is installed in part: it has no RECORD"]
    (install(top, "other2", ["other2.py"], installer="uv") / "RECORD").unlink()
    assert "other2-1.0 is installed in part: it has no RECORD" in unfinished(top)


def test_a_distribution_that_pip_was_unpacking(top: Path) -> None:
    """With the wheel's own RECORD; what a package of conda lacks is its own affair."""
    (install(top, "half", ["half.py"]) / "INSTALLER").unlink()
    (install(top, "numpy", ["numpy.py"]) / "INSTALLER").unlink()
    half = "half-1.0 is installed in part: it has no INSTALLER"
    assert unfinished(top) == [half, half.replace("half", "numpy", 1)]  # over conda's numpy
    condas(top, "numpy", "numpy-1.0.dist-info/METADATA")
    assert unfinished(top) == [half]


@pytest.mark.parametrize("installer", ["pip", "conda"])
def test_a_package_of_conda_without_what_its_recipe_deleted(top: Path, installer: str) -> None:
    """As pip's own, without its `pip3.11` and its programs for Windows."""
    install(top, "pip", ["pip/__init__.py", "../../../bin/pip3.11"], installer)
    (top / "bin/pip3.11").unlink()
    condas(top, "pip", "pip-1.0.dist-info/RECORD")
    assert unfinished(top) == []
    install(top, "by_pip", ["pip/__init__.py", "../../../bin/pip3.11"])
    (top / "bin/pip3.11").unlink()
    assert unfinished(top) == ["by_pip-1.0 is installed in part: ../../../bin/pip3.11 is missing"]


def test_package_that_came_unwatched_may_be_an_installers(top: Path) -> None:
    write(top / PACKAGES / "by_hand/__init__.py")
    later()
    check = first_check(top)
    later()
    write(top / PACKAGES / "half/__init__.py")
    (top / PACKAGES / "by_hand/__pycache__").mkdir()  # whatever is done to what was accepted
    check = next_check(top, check)
    for _ in range(2):
        assert check.observe().unfinished == (HALF,)
    install(top, "half", ["half/__init__.py"])
    assert check.observe().unfinished == ()


def test_package_that_came_unwatched_where_one_left_bytecode_may_be_an_installers(
    top: Path,
) -> None:
    write(top / PACKAGES / "half/__pycache__/old.cpython-311.pyc")
    later()
    check = first_check(top)
    later()
    write(top / PACKAGES / "half/__init__.py")
    assert next_check(top, check).observe().unfinished == (HALF,)


def test_what_comes_just_as_a_check_begins_is_not_accepted_by_it(
    top: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The filesystem's clock is behind, so that it seems to have come before."""
    later()
    check = first_check(top)
    half = top / PACKAGES / "half/__init__.py"
    write(half)
    began_seconds = half.stat().st_ctime + SLACK_SECONDS / 2
    with monkeypatch.context() as patched:
        patched.setattr(time, "time", lambda: began_seconds)
        assert check.observe().unfinished == ()
        check.accept()
    assert next_check(top, check).observe().unfinished == (HALF,)


def test_package_added_by_hand_between_two_checks_is_accepted(top: Path) -> None:
    """Where something did, from the check on that has accepted it."""
    later()
    check = next_check(top, first_check(top))
    later()
    write(top / PACKAGES / "mine/__init__.py")
    later()
    assert check.observe().unfinished == ()
    check.accept()
    install(top, "pips", ["namespace/pips/__init__.py"])
    write(top / PACKAGES / "condas/__init__.py")
    condas(top, "condas", "condas/__init__.py")
    check = next_check(top, check)
    assert check.observe().unfinished == ()
    check.accept()
    later()
    write(top / PACKAGES / "mine_too/__init__.py")
    assert check.observe().unfinished == ()


@pytest.mark.parametrize("is_polled", [True, False])
@pytest.mark.parametrize(
    ("path", "is_sign"),
    [
        ("half.py", True),
        ("half.cpython-311-x86_64-linux-gnu.so", True),
        ("pure.libs/libhalf.so.1", True),
        ("pure/data/model.bin", False),
        ("../../../share/by_hand", False),
    ],
)
def test_code_that_came_unwatched_may_be_an_installers(
    top: Path, path: str, is_sign: bool, is_polled: bool
) -> None:
    """Other files are a person's or a program's."""
    install(top, "libs", ["pure.libs/liba.so.1", "pure/data/words.txt", "../../../share/a"])
    write(top / PACKAGES / "by_hand.py")
    later()
    before = first_check(top)
    later()
    if is_polled:
        check = before
        check.is_polled = True
        write(top / PACKAGES / path)
    else:
        write(top / PACKAGES / path)
        later()
        check = next_check(top, before)
        later()
        write(top / PACKAGES / "by_hand2.py")
    signs = (f"{path} is in no installed distribution",) if is_sign else ()
    assert check.observe().unfinished == signs
    install(top, "half", [path])
    assert check.observe().unfinished == ()


def test_absolute_paths_in_a_record_are_the_environments(top: Path) -> None:
    """As Poetry writes them."""
    check = first_check(top)
    killed(top, check, "pip", f"{PACKAGES}/lab.pth")
    install(top, "lab", [f"{top}/{PACKAGES}/lab.pth"])
    assert check.observe().unfinished == ()


def test_what_stands_there_is_complete_for_a_daemon_that_knows_of_no_check(top: Path) -> None:
    write(top / PACKAGES / "mine/__init__.py")
    later()
    check = InstallCheck(str(top), (), SourceRow(NAME))
    assert check.observe().unfinished == ()


def test_scripts_of_a_target_are_beside_its_packages(top: Path) -> None:
    """Where `pip install --target` puts them, its RECORD names another place."""
    check = first_check(top)
    with running(top, "pip"):
        check.note_installer()
        install(top, "tool", ["tool.py", "../../bin/tool"])
        (top / "lib/bin/tool").unlink()
        write(top / PACKAGES / "bin/tool")
    ended(check)
    assert check.observe().unfinished == ()


def test_an_environment_that_is_gone_comes_back_as_it_was(top: Path) -> None:
    write(top / PACKAGES / "mine/__init__.py")
    later()
    check = first_check(top)
    top.rename(top.with_name("away"))
    assert check.observe() == Observation(is_there=False)
    check.accept()
    top.with_name("away").rename(top)
    assert next_check(top, check).observe().unfinished == ()


def test_an_old_pip_leaves_an_egg_info(top: Path) -> None:
    info = top / PACKAGES / "Old_Name-1.0-py3.11.egg-info"
    info.mkdir()
    check = first_check(top)
    killed(top, check, "pip", f"{PACKAGES}/old/__init__.py")
    assert check.observe().unfinished == ("old is in no installed distribution",)
    (info / "installed-files.txt").write_text("../old/__init__.py\nPKG-INFO\n")
    assert check.observe().unfinished == ()


def test_a_package_that_the_history_does_not_mention(
    top: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (top / "conda-meta/new-2.0-0.json").write_text("{}")
    assert unfinished(top) == ["conda-meta/history does not mention new-2.0-0"]
    (top / "conda-meta/history").write_text("+python-3.11-0\n+numpy-1.0-0\n+new-2.0\n")
    assert unfinished(top) == []
    (top / "conda-meta/history").write_text("+numpy-1.0-0\n+python-3.11-0\n")
    later = time.time() + HISTORY_SECONDS + 1
    with monkeypatch.context() as patched:
        patched.setattr(time, "time", lambda: later)
        assert unfinished(top) == []  # nobody is going to finish it
    (top / "conda-meta/history").write_text("==> 2026 <==\n")  # rattler's: it mentions none
    assert unfinished(top) == []


def test_remains_that_are_old_are_named_once_they_are(
    top: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (top / PACKAGES / "~umpy").mkdir()
    (install(top, "half", ["half.py"]) / "INSTALLER").unlink()
    check = first_check(top)
    assert check.old_leftovers() == ()
    later = time.time() + YOUNG_SECONDS + 1
    monkeypatch.setattr(time, "time", lambda: later)
    assert check.old_leftovers() == (
        f"an installer left {PACKAGES}/~umpy",
        "half-1.0 is installed in part: it has no INSTALLER",
    )


def later() -> None:
    """Return when what is done now has another time than what was done before."""
    before = time.time()
    wait_until(lambda: time.time() > before + 0.03, "another time")


@contextlib.contextmanager
def running(top: Path, name: str) -> Iterator[int]:
    """A process until the block ends; of an installer, only what its command line says counts.

    It starts so late that the times of files tell what was there before.
    """
    later()
    process = subprocess.Popen(
        [str(top / "bin" / name), "-c", "echo runs; read _", "install", "x"],
        executable="/bin/sh",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"runs\n"
        yield process.pid
    finally:
        process.communicate()


@pytest.mark.parametrize(("name", "is_one"), [("pip", True), ("python", False)])
def test_an_installer_at_work(top: Path, name: str, is_one: bool) -> None:
    with running(top, name) as pid:
        assert first_check(top).observe().busy == (f"pip (process {pid})" if is_one else "")


def write(path: Path, text: str = "half") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def ended(check: InstallCheck) -> None:
    wait_until(
        lambda: all(run.ended_seconds for run in check.runs if run.name != "conda"), "its end"
    )


def killed(top: Path, check: InstallCheck, name: str, *paths: str) -> None:
    """An installer that has written these, and was seen before it ended."""
    with running(top, name):
        for path in paths:
            write(top / path)
        check.note_installer()
    ended(check)


def test_package_of_an_installer_that_was_noted_before_it_was_killed_is_unfinished(
    top: Path,
) -> None:
    check = first_check(top)
    write(top / PACKAGES / "mine/__init__.py")
    assert check.observe().unfinished == ()  # made by hand
    killed(top, check, "pip", f"{PACKAGES}/half/__init__.py", f"{PACKAGES}/half/inner/a.py")
    later()
    write(top / PACKAGES / "mine_too/__init__.py")
    assert check.observe().unfinished == (HALF,)
    install(top, "half", ["half/__init__.py", "half/inner/a.py"])
    assert check.observe().unfinished == ()


def test_end_of_an_installer_is_found_by_a_kernel_without_pidfds_too(
    top: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(_: int) -> int:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(os, "pidfd_open", unknown)
    check = first_check(top)
    with running(top, "pip"):
        check.note_installer()
        later()
        check.note_installer()
        write(top / PACKAGES / "half/__init__.py")
        assert check.observe().busy
    assert check.observe().unfinished == (HALF,)


def test_half_installed_environment_that_is_gone_comes_back_unfinished(top: Path) -> None:
    """Its filesystem may have been unmounted."""
    check = first_check(top)
    killed(top, check, "pip", f"{PACKAGES}/half/__init__.py")
    top.rename(top.with_name("away"))
    assert check.observe().unfinished == ()
    check.accept()
    top.with_name("away").rename(top)
    assert check.observe().unfinished == (HALF,)


def test_hint_soon_after_another_is_looked_at_later(
    top: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(install_check, "LOOK_SECONDS", 0.5)
    check = first_check(top)
    check.note_installer()
    with running(top, "uv"):
        check.note_installer()
        assert not check.look_if_due()
        assert check.look_seconds > time.monotonic()
        wait_until(check.look_if_due, "the end of the pause")
        write(top / PACKAGES / "half/__init__.py")
    ended(check)
    assert check.look_seconds == math.inf
    assert check.observe().unfinished == (HALF,)


def test_installer_that_is_killed_while_another_works_is_noted(top: Path) -> None:
    check = first_check(top)
    with running(top, "conda"):
        assert check.observe().busy
        killed(top, check, "pip", f"{PACKAGES}/half/__init__.py")
        later()
        condas(top, "scipy")
    assert check.observe().unfinished == (HALF,)


@pytest.mark.parametrize("is_seen_at_its_end", [True, False])
def test_what_an_installer_left_is_unfinished_for_the_next_daemon_too(
    top: Path, is_seen_at_its_end: bool
) -> None:
    check = first_check(top)
    with running(top, "pip"):
        write(top / PACKAGES / "pure.d/half.so")
        check.note_installer()
        if not is_seen_at_its_end:
            runs = check.runs
    if is_seen_at_its_end:
        ended(check)
        runs = check.runs
    sign = "pure.d is in no installed distribution"
    again = next_check(top, check, runs)
    assert again.observe().unfinished == (sign,)
    again.accept()  # a person insisted
    assert (again.runs, again.observe().unfinished) == ((), ())


def test_package_of_an_installer_that_is_at_work_at_the_first_look_is_not_accepted(
    top: Path,
) -> None:
    write(top / PACKAGES / "mine/__init__.py")
    with running(top, "pip") as pid:
        write(top / PACKAGES / "half/__init__.py")
        check = first_check(top)
        assert check.old_leftovers() == ()
        assert check.observe().busy == f"pip (process {pid})"
    ended(check)
    assert check.observe().unfinished == (HALF,)


@pytest.mark.parametrize(
    "path",
    [
        "half.py",
        "_half.cpython-311-x86_64-linux-gnu.so",
        "pure/half.py",
        "../../../share/half/data",
        "../../../etc/half.conf",
    ],
)
def test_file_of_any_kind_that_a_killed_pip_brought_is_unfinished(top: Path, path: str) -> None:
    check = first_check(top)
    install(top, "pure2", ["pure/__init__.py", "../../../share/a", "../../../etc/b"])
    killed(top, check, "pip", f"{PACKAGES}/{path}")
    [sign] = check.observe().unfinished
    assert "half" in sign
    install(top, "half", [path])
    assert check.observe().unfinished == ()


@pytest.mark.parametrize(
    "path",
    [
        f"{PACKAGES}/pure/__pycache__/pure.cpython-311.pyc",
        f"{PACKAGES}/pure/__pycache__/of-a-tool.cache",
        f"{PACKAGES}/mine.egg-link",
        f"{PACKAGES}/easy-install.pth",
        f"{PACKAGES}/.lock",
        f"{PACKAGES}/pure/.nfs000000000123",
        "share/jupyter/lab/settings/page_config.json",
        "bin/mine",
        "var/log/mine.log",
        ".lock",
        "notes.txt",
        ".cache/mine",
        "envs/mine/lib/mine.py",
    ],
)
def test_what_installers_or_programs_leave_unrecorded_is_not_unfinished(
    top: Path, path: str
) -> None:
    check = first_check(top)
    killed(top, check, "pip", path)
    assert check.observe().unfinished == ()


def test_file_that_a_program_writes_after_an_install_is_not_unfinished(top: Path) -> None:
    install(top, "mypkg", ["mypkg/__init__.py", "mypkg/data/words.txt"])
    check = first_check(top)
    write(top / PACKAGES / "mypkg/data/cache/model.bin")
    assert check.observe().unfinished == ()
    with running(top, "pip"):
        install(top, "other", ["other/__init__.py"])
        check.note_installer()
    ended(check)
    later()
    write(top / PACKAGES / "mypkg/data/cache2/model.bin")
    assert check.observe().unfinished == ()


def test_file_that_is_written_in_place_during_an_install_is_not_unfinished(top: Path) -> None:
    """An installer makes new files; a job or a person changes some that are there."""
    settings = top / PACKAGES / "mine/settings.ini"
    write(settings)
    check = first_check(top)
    killed(top, check, "pip", str(settings.relative_to(top)))
    assert check.observe().unfinished == ()


def test_content_of_what_a_killed_pip_set_aside_is_not_named_beside_it(top: Path) -> None:
    check = first_check(top)
    killed(top, check, "pip", f"{PACKAGES}/~umpy/__init__.py")
    assert check.observe().unfinished == (f"an installer left {PACKAGES}/~umpy",)


def test_distribution_that_is_removed_may_leave_what_it_did_not_bring(top: Path) -> None:
    info = install(top, "mypkg", ["mypkg/__init__.py"])
    write(top / PACKAGES / "mypkg/settings.ini")
    write(top / PACKAGES / "mypkg/__pycache__/a.cpython-311.opt-1.pyc")
    check = first_check(top)
    with running(top, "pip"):
        shutil.rmtree(info)
        (top / PACKAGES / "mypkg/__init__.py").unlink()
        check.note_installer()
    ended(check)
    assert check.observe().unfinished == ()


def test_package_without_a_record_in_a_polled_environment_is_unfinished(top: Path) -> None:
    """Whoever put it there can have come and gone between two polls."""
    check = first_check(top)
    check.is_polled = True
    assert check.observe().unfinished == ()
    later()
    write(top / PACKAGES / "half/__init__.py")
    assert check.observe().unfinished == (HALF,)
    install(top, "half", ["half/__init__.py"])
    assert check.observe().unfinished == ()


TOOL = "bin/tool is in no installed package"


def test_what_a_conda_brought_that_was_killed_before_it_wrote_the_history_is_unfinished(
    top: Path,
) -> None:
    """Although another one comes to its end: only a record says that it is whole."""
    check = first_check(top)
    condas(top, "numpy", "numpy/__init__.py")
    killed(top, check, "conda", "bin/tool", "lib/R/library/half/R/half.rdb")
    signs = (TOOL, "lib/R is in no installed package")
    assert check.observe().unfinished == signs
    with running(top, "conda"):
        check.note_installer()
        condas(top, "scipy", "scipy/__init__.py")
        write(top / "lib/cache-of-a-post-link-script")
    ended(check)
    assert check.observe().unfinished == signs
    record = {"files": ["bin/tool", "lib/R/library/half/R/half.rdb"]}
    (top / "conda-meta/tool-1.0-0.json").write_text(json.dumps(record))
    with (top / "conda-meta/history").open("a") as history:
        history.write("+tool-1.0-0\n")
    assert check.observe().unfinished == ()
    check.accept()
    (top / "bin/by-hand").touch()
    assert check.observe().unfinished == ()


def test_conda_that_took_everything_back_left_nothing(top: Path) -> None:
    """It renames the record that it had set aside, which has another ctime then."""
    record, aside = top / "conda-meta/numpy-1.0-0.json", top / "conda-meta/numpy-1.0-0.json.c~"
    check = first_check(top)
    with running(top, "conda"):
        check.note_installer()
        record.rename(aside)
        aside.rename(record)
    ended(check)
    assert check.observe().unfinished == ()


def test_conda_that_is_repeated_mends_what_it_left(top: Path) -> None:
    check = first_check(top)
    killed(top, check, "conda", "bin/tool")
    record = top / "conda-meta/tool-1.0-0.json"
    with running(top, "conda"):
        check.note_installer()
        record.write_text(json.dumps({"files": ["bin/tool"]}))
    ended(check)
    sign = "conda-meta/history does not mention tool-1.0-0"
    assert check.observe().unfinished == (sign,)
    later()
    with running(top, "conda"):
        check.note_installer()
        with (top / "conda-meta/history").open("a") as history:
            history.write("+conda-forge/linux-64::tool-1.0-0\n")
    ended(check)
    assert check.observe().unfinished == ()


def test_record_that_a_killed_mamba_removed_is_missing(top: Path) -> None:
    """It removes the old packages first."""
    with (top / "conda-meta/history").open("a") as history:
        history.write("+c/linux-64::old-1.0-0\n-c/linux-64::old-1.0-0\n+c/linux-64::new-2.0\n")
    (top / "conda-meta/new-2.0-0.json").write_text("{}")
    later()
    check = first_check(top)
    with running(top, "mamba"):
        check.note_installer()
        (top / "conda-meta/numpy-1.0-0.json").unlink()
    ended(check)
    sign = "conda-meta has no record of numpy-1.0-0, which its history mentions"
    assert check.observe().unfinished == (sign,)
    with (top / "conda-meta/history").open("a") as history:
        history.write("-c/linux-64::numpy-1.0-0\n")
    assert check.observe().unfinished == ()


def test_conda_killed_with_the_daemon_is_not_taken_for_a_later_one(top: Path) -> None:
    check = first_check(top)
    with running(top, "conda"):
        write(top / "bin/tool")
        check.note_installer()
        runs = check.runs
    later()
    condas(top, "scipy")
    again = next_check(top, check, runs)
    assert again.observe().unfinished == (TOOL,)


def test_installer_is_noted_though_the_clock_is_set_back(
    top: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = first_check(top)
    with running(top, "pip"):
        with monkeypatch.context() as patched:
            patched.setattr(time, "time", lambda now=time.time: now() + 3600)
            check.note_installer()
        write(top / PACKAGES / "half/__init__.py")
    ended(check)
    assert check.observe().unfinished == (HALF,)


def test_file_that_vanishes_hides_no_other(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check = first_check(top)
    killed(top, check, "pip", *(f"{PACKAGES}/{name}.py" for name in ("a_half", "gone", "z_half")))
    true_changed = changed_seconds

    def changed(path: str) -> float:
        return true_changed(path + "?" if path.endswith("gone.py") else path)

    monkeypatch.setattr(unclaimed_files, "changed_seconds", changed)
    signs = tuple(f"{name}.py is in no installed distribution" for name in ("a_half", "z_half"))
    assert check.observe().unfinished == signs


def test_what_came_during_a_long_check_is_looked_at_by_the_next(
    top: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(install_check, "LONG_CHECK_SECONDS", 0.0)
    check = first_check(top)
    later()
    assert check.observe().unfinished == ()
    later()
    write(top / PACKAGES / "half/__init__.py")
    later()
    check.accept()
    assert check.observe().unfinished == (HALF,)


def test_package_that_a_killed_conda_recorded_is_unfinished_without_a_history(top: Path) -> None:
    check = first_check(top)
    with running(top, "conda"):
        check.note_installer()
        record = top / "conda-meta/tool-1.0-0.json"
        record.write_text(json.dumps({"files": ["bin/tool"]}))
        write(top / "bin/tool")
    ended(check)
    sign = "conda-meta/history does not mention tool-1.0-0"
    assert check.observe().unfinished == (sign,)


def test_conda_that_changed_nothing_may_write_no_history(top: Path) -> None:
    """Although pip installed something meanwhile, as by `conda env update` it does."""
    check = first_check(top)
    with running(top, "conda"):
        install(top, "tools", ["../../../bin/tool", "../../../share/man/tool.1", "tools.py"])
        assert check.observe().busy
    ended(check)
    assert check.observe().unfinished == ()


def test_new_environment_of_a_conda_that_was_killed_is_unfinished(tmp_path: Path) -> None:
    """Some create the history first, and empty."""
    top = tmp_path / "envs/new"
    check = first_check(top)
    with running(top, "mamba"):
        write(top / "conda-meta/history", "")
        write(top / "bin/tool")
        check.note_installer()
    ended(check)
    assert check.observe().unfinished == (TOOL,)


INNER = "nvidia/labmany is in no installed distribution"


@pytest.mark.parametrize("by", ["pip", "conda"])
@pytest.mark.parametrize("init", [None, "", "from pkgutil import extend_path\n"])
@pytest.mark.parametrize("is_seen", [True, False])
def test_part_of_a_namespace_package_that_an_installer_began_is_unfinished(
    top: Path, init: str | None, by: str, is_seen: bool
) -> None:
    """The others of its parts are of other distributions. pip gives no hint before its end."""
    install(top, "nvidia_a", ["nvidia/a/__init__.py"])
    if init is not None:
        write(top / PACKAGES / "nvidia/__init__.py", init)
    later()
    check = first_check(top)
    if is_seen:
        killed(top, check, "pip", f"{PACKAGES}/nvidia/labmany/inner/__init__.py")
    else:
        later()
        write(top / PACKAGES / "nvidia/labmany/inner/__init__.py")
    assert check.observe().unfinished == (INNER,)
    assert next_check(top, check).observe().unfinished == (INNER,)
    if by == "pip":
        install(top, "nvidia_b", ["nvidia/labmany/inner/__init__.py"])
    else:
        condas(top, "nvidia-b", "nvidia/labmany/inner/__init__.py")
    assert check.observe().unfinished == ()


@pytest.mark.parametrize("is_polled", [True, False])
def test_module_that_is_saved_in_a_package_of_ones_own_is_not_an_installers(
    top: Path, is_polled: bool
) -> None:
    """Which has no modules at its top, as a package of several distributions."""
    for name in ("a", "b"):
        write(top / PACKAGES / f"mine/tools/{name}.py")
    later()
    check = first_check(top)
    check.is_polled = is_polled
    later()
    (top / PACKAGES / "mine/tools/a.py").unlink()  # as an editor saves
    write(top / PACKAGES / "mine/tools/a.py")
    assert check.observe().unfinished == ()


def test_directory_that_is_linked_into_an_environment_is_not_looked_at(
    top: Path, tmp_path: Path
) -> None:
    (top / PACKAGES / "mine").symlink_to(tmp_path / "project")
    later()
    check = first_check(top)
    later()
    write(tmp_path / "project/tools/a.py")
    assert check.observe().unfinished == ()


def test_code_below_a_package_that_has_modules_is_a_persons_or_a_programs(top: Path) -> None:
    install(top, "google", ["google/__init__.py", "google/a.py"])
    install(top, "large", ["large/__init__.py"])
    write(top / PACKAGES / "by_hand/a.py")
    write(top / PACKAGES / "large/__init__.py", "no namespace package is as large as this\n" * 99)
    later()
    check = first_check(top)
    later()
    for package in ("google/made_as_it_ran", "by_hand/inner", "large/inner"):
        write(top / PACKAGES / package / "b.py")
    assert check.observe().unfinished == ()


def test_package_that_an_upgrade_began_to_write_is_unfinished(top: Path) -> None:
    """uv has removed the old one, whose name for Python may be another than pip's."""
    old = install(top, "scikit_lab", ["sklab/__init__.py"])
    check = first_check(top)
    with running(top, "uv"):
        shutil.rmtree(old)
        (top / PACKAGES / "sklab/__init__.py").unlink()
        write(top / PACKAGES / "sklab/__init__.py")
        check.note_installer()
    ended(check)
    sign = "sklab is in no installed distribution"
    assert check.observe().unfinished == (sign,)
    assert next_check(top, check).observe().unfinished == (sign,)
    install(top, "scikit_lab", ["sklab/__init__.py"])
    assert check.observe().unfinished == ()


def test_installer_that_ends_as_it_is_looked_at_did_not_run_since_the_boot(
    top: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(top / PACKAGES / "mine/__init__.py")
    later()
    check = first_check(top)
    with running(top, "pip") as pid:
        check.note_installer()
    ended(check)
    monkeypatch.setattr(install_check, "installers_at_work", lambda _: [("pip", pid)])
    assert check.observe().busy
    monkeypatch.setattr(install_check, "installers_at_work", lambda _: [])
    check._at_work = None
    assert check.observe().unfinished == ()
