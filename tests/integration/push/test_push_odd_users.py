"""Odd names, homes, umasks, locales, clocks and terminals: whole pushes all the same."""

from __future__ import annotations

import re
import shutil
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import envsync as package
from tests.integration.push.command import ENVSYNC, Envsync
from tests.integration.push.places import state
from tests.integration.push.tree_listing import assert_same, tree
from tests.lab.lab import Lab, LabHost

NAME = "myenv"
ODD_NAMES = ["$(touch${IFS}pwned)", "it's-\"b", "`id>pwned`;c&d|e>pwned", "ünï-日本[red]"]
ODD_PREFIX = "alice/odd 'prefix' \"q\" $(id) `x` ü"


def make_environment(host: LabHost, name: str = NAME, prefix: str = "") -> Path:
    top = host.path(f"{prefix or host.prefix}/envs/{name}")
    for path, text in (("conda-meta/history", "==>\n"), ("bin/tool", "#!\n"), ("lib/ü", "x")):
        (top / path).parent.mkdir(parents=True, exist_ok=True)
        (top / path).write_text(text)
    (top / "bin/tool").chmod(0o755)
    return top


def make_prefix(host: LabHost, prefix: str = "") -> None:
    for name in ("envs", "conda-meta"):
        host.path(f"{prefix or host.prefix}/{name}").mkdir(parents=True)


@pytest.fixture
def source(fresh_lab: Lab) -> Path:
    """A few files as `myenv` on the controller, and a server that could take them."""
    for host in (fresh_lab.controller, fresh_lab["server2"]):
        make_prefix(host)
    return make_environment(fresh_lab.controller)


def target_of(lab: Lab, name: str = NAME, prefix: str = "") -> Path:
    host = lab["server2"]
    return host.path(f"{prefix or host.prefix}/envs/{name}")


def shell(
    lab: Lab, script: str, *arguments: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    """A line of shell on the controller, in which "$E" is envsync with its arguments."""
    host = lab.controller
    return host.run(
        ["bash", "-c", f'E() {{ {ENVSYNC} "$@"; }}; {script}', "bash", *arguments],
        check=False,
        env={"CONDA_PREFIX": host.prefix, **variables},
        timeout_seconds=45,
    )


def require_calm(ran: subprocess.CompletedProcess[str], status: int = 0) -> None:
    assert ran.returncode == status, ran.stdout + ran.stderr
    said = ran.stdout + ran.stderr
    assert "Traceback" not in said
    assert "bug" not in said


# --- names ------------------------------------------------------------------------------


def test_names_that_a_shell_would_carry_out(source: Path, fresh_lab: Lab) -> None:
    """Environments and a prefix of quotes, blanks and commands, by every transport."""
    controller, target = fresh_lab.controller, fresh_lab["server2"]
    prefix = str(Path(controller.prefix).parents[1] / ODD_PREFIX)
    for host in (controller, target):
        make_prefix(host, prefix)
    command = Envsync(controller)
    command.environment["CONDA_PREFIX"] = prefix
    for number, name in enumerate(ODD_NAMES):
        made = make_environment(controller, name, prefix)
        transport = ("stream", "rsync", "scp")[number % 3]
        options = ["--transport", transport]
        pushed = command.ok("push", name, "server2", *options).server
        assert (pushed["outcome"], pushed["transport"]) == ("pushed", transport)
        assert_same(tree(made), tree(target_of(fresh_lab, name, prefix)))
    listed = command.ok("list", "server2").servers[0]["environments"]
    assert sorted(row["name"] for row in listed) == sorted(ODD_NAMES)
    for host in (controller, target):
        for place in ("/", host.home(), prefix, f"{prefix}/envs", f"{prefix}/envs/.envsync"):
            assert not host.path(f"{place}/pwned").exists()


# --- homes and umasks -------------------------------------------------------------------


def test_without_a_home_and_without_room_for_a_cache(source: Path, fresh_lab: Lab) -> None:
    """What was hashed is not remembered; nothing else is missing."""
    target = fresh_lab["server2"]
    target.write_file(f"{target.home()}/.cache", "a file where a directory goes")
    nowhere = "env XDG_CACHE_HOME=/proc/none XDG_STATE_HOME=/proc/none"
    cases = ["env -u HOME", "env -u HOME", "env XDG_CACHE_HOME=relative XDG_STATE_HOME="]
    for number, case in enumerate(cases):
        (source / "lib/version").write_text(str(number))
        require_calm(shell(fresh_lab, f"{case} {ENVSYNC} push myenv server2"))
        assert_same(tree(source), tree(target_of(fresh_lab)))
    # What was pushed without a place to note it is known to be this source's by its record alone.
    machine_id = fresh_lab.controller.path("/etc/machine-id")
    for text in ("four", "five"):
        (source / "lib/version").write_text(text)
        require_calm(shell(fresh_lab, f"{nowhere} {ENVSYNC} push myenv server2"))
    machine_id.rename(machine_id.with_name("kept"))
    try:
        for text in ("six", "seven"):
            (source / "lib/version").write_text(text)
            require_calm(shell(fresh_lab, f"{nowhere} {ENVSYNC} push myenv server2"), status=12)
            require_calm(shell(fresh_lab, f"{nowhere} {ENVSYNC} push myenv server2 --overwrite"))
    finally:
        machine_id.with_name("kept").rename(machine_id)
    assert_same(tree(source), tree(target_of(fresh_lab)))


def found_modes(host: LabHost, *places: str) -> Iterator[tuple[Path, int]]:
    for place in places:
        for path in [host.path(place), *host.path(place).rglob("*")]:
            if path.exists() and not path.is_symlink():
                yield path, stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("umask", ["000", "077"])
def test_any_umask_at_both_ends(umask: str, source: Path, fresh_lab: Lab) -> None:
    """Nothing that everybody may write, and what envsync keeps is for its user alone."""
    controller, target = fresh_lab.controller, fresh_lab["server2"]
    for host in (controller, target):
        host.write_file(f"{host.home()}/.bashrc", f"umask {umask}\n")
        host.write_file(f"{host.home()}/.profile", f"umask {umask}\n")
    for number, transport in enumerate(("stream", "rsync", "scp")):
        (source / "lib/version").write_text(str(number))
        line = f"umask {umask}; E push myenv server2 --transport {transport} && E list"
        require_calm(shell(fresh_lab, line))
        assert_same(tree(source), tree(target_of(fresh_lab)))
    require_calm(shell(fresh_lab, f"umask {umask}; E rollback myenv server2"))
    for host in (controller, target):
        for path, mode in found_modes(host, host.home(), str(Path(host.prefix).parent)):
            assert not mode & stat.S_IWOTH, path
        for place in (".cache", ".local"):
            for path, mode in found_modes(host, f"{host.home()}/{place}"):
                assert not mode & 0o077, path
    assert state(target).stat().st_mode & 0o777 == 0o700
    kept = [path for path in state(target).iterdir() if path.is_file()]
    kept += (state(target) / "generations").iterdir()
    assert {stat.S_IMODE(path.stat().st_mode) for path in kept} == {0o600}


# --- locales ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "locale",
    [
        {"LC_ALL": "C"},
        {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
    ids=["C", "POSIX, and Python told to believe it"],
)
def test_names_are_the_same_bytes_in_any_locale(
    locale: dict[str, str], source: Path, fresh_lab: Lab
) -> None:
    made = make_environment(fresh_lab.controller, "ünï")
    ran = shell(
        fresh_lab, "E push ünï server2 && E list server2 && E history ünï server2", **locale
    )
    require_calm(ran)
    assert "ünï" in ran.stdout
    assert_same(tree(made), tree(target_of(fresh_lab, "ünï")))


# --- terminals --------------------------------------------------------------------------


def test_descriptors_that_are_closed(source: Path, fresh_lab: Lab) -> None:
    """What is printed goes nowhere, and never into a file or a socket of envsync's own.

    It is done all the same, and the status says that nobody could be told (as `ls >&-` does).
    """
    cases = {"<&-": 0, ">&-": 22, "<&- >&- 2>&-": 22}
    for number, (closed, status) in enumerate(cases.items()):
        (source / "lib/version").write_text(str(number))
        require_calm(shell(fresh_lab, f"E push myenv server2 {closed}"), status=status)
        assert_same(tree(source), tree(target_of(fresh_lab)))


def test_a_reader_that_goes_and_a_disk_that_is_full(source: Path, fresh_lab: Lab) -> None:
    ran = shell(fresh_lab, "E push myenv server2 | head -n 1; exit ${PIPESTATUS[0]}")
    assert ran.returncode in (0, 141)
    assert (ran.stdout, ran.stderr) == ("myenv -> server2 ...\n", "")
    ran = shell(fresh_lab, "E list server2 -v | true; exit ${PIPESTATUS[0]}")
    assert ran.returncode in (0, 141)
    assert ran.stderr == ""
    for arguments in ("list server2", "list server2 --json", "--help"):
        ran = shell(fresh_lab, f"E {arguments} > /dev/full")
        require_calm(ran, status=22)
        assert ran.stderr == "envsync: the output cannot be written: No space left on device\n"


def test_terminals_of_all_kinds(source: Path, fresh_lab: Lab) -> None:
    """A narrow one, one that cannot move its cursor, one that wants no colour."""
    cases = {
        "TERM=dumb": "\x1b",
        "TERM=xterm NO_COLOR=1": r"\x1b\[[0-9;]*m",
        "TERM=xterm COLUMNS=4": "\0",
    }
    for number, (variables, unwanted) in enumerate(cases.items()):
        (source / "lib/version").write_text(str(number))
        inner = f"stty cols 5 rows 2; {variables} {ENVSYNC} push myenv server2"
        ran = shell(fresh_lab, f"script -qec {shell_quoted(inner)} /dev/null </dev/null")
        require_calm(ran)
        assert not re.search(unwanted, ran.stdout)
        assert_same(tree(source), tree(target_of(fresh_lab)))


def shell_quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


# --- clocks -----------------------------------------------------------------------------

_DAY_SECONDS = 86_400
_CLOCK = """

import time

_time, _time_ns = time.time, time.time_ns
time.time = lambda: _time() + {offset}
time.time_ns = lambda: _time_ns() + {offset} * 1_000_000_000
"""


@pytest.mark.parametrize("offset", [_DAY_SECONDS, -_DAY_SECONDS], ids=["ahead", "behind"])
def test_a_clock_that_is_a_day_off(offset: int, source: Path, fresh_lab: Lab) -> None:
    """The server's clock, by which files there seem a day old, or to come from tomorrow."""
    controller = fresh_lab.controller
    copy = controller.path("/run/lab/clock") / "envsync"
    shutil.rmtree(copy.parent, ignore_errors=True)
    shutil.copytree(
        Path(package.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__")
    )
    with (copy / "agent/operations/process.py").open("a") as file:  # which only the agent imports
        file.write(_CLOCK.format(offset=offset))
    command = Envsync(controller, "/run/lab/clock")
    first = command.push("server2").server
    assert first["outcome"] == "pushed"
    assert abs(first["record"]["when_seconds"] - time.time() - offset) < 60
    assert command.push("server2").server["outcome"] == "in-step"
    (source / "lib/version").write_text("2")
    assert command.push("server2").server["outcome"] == "pushed"
    assert_same(tree(source), tree(target_of(fresh_lab)))
    (target_of(fresh_lab) / "lib/version").write_text("3")
    assert command.push("server2", expect=11).error["code"] == "drift"
    assert command.ok("rollback", "myenv", "server2", "--overwrite").result["record"]["number"] == 1
    told = controller.run(
        [*command._command, "list", "server2"], env=command.environment, timeout_seconds=30
    ).stdout
    assert "just now" in told
