"""`envsync demo` as people start it: a process of its own, watched from outside."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.conda.template import CondaPrefix
from tests.support.processes import wait_until

pytestmark = pytest.mark.timeout(180)

COMMAND = [sys.executable, "-c", "from envsync.cli import main; main()", "demo"]
# An ordinary user without a name, as in a container; what it makes belongs to who started it.
ORDINARY = ["unshare", "--user", "--map-user=54321", "--map-group=54321", "--"]
TITLES = [
    "An environment, and two servers",
    "Push it to both",
    "Verify: hash every file there again",
    "Change one package, push again: only the change travels",
    "Someone edits a file on server2 by hand: the push is refused",
    "--overwrite replaces it, and keeps the edited version",
    "Roll back",
    "Clean up",
]


class Surroundings:
    """A HOME and a TMPDIR, in both of which nothing may be left."""

    def __init__(self, path: Path) -> None:
        self.home, self.tmp, self.programs = path / "home", path / "tmp", path / "programs"
        for directory in (self.home, self.tmp, self.programs):
            directory.mkdir()
        self.environ = {
            "HOME": str(self.home),
            "TMPDIR": str(self.tmp),
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
        }

    def start(
        self, *options: str, before: Sequence[str] = (), **environ: str
    ) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*before, *COMMAND, *options],
            env={**self.environ, **environ},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run_json(self, *options: str, before: Sequence[str] = (), **environ: str) -> dict[str, Any]:
        process = self.start("--json", *options, before=before, **environ)
        out, err = process.communicate(timeout=170)
        assert err == ""
        document: dict[str, Any] = json.loads(out)
        assert document["exit_code"] == process.returncode
        return document

    def left(self) -> list[Path]:
        return [*self.tmp.iterdir(), *self.home.iterdir()]

    def processes(self) -> list[int]:
        """Those that have this TMPDIR in their environment."""
        mark = f"TMPDIR={self.tmp}\0".encode()
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    if mark in (entry / "environ").read_bytes():
                        found.append(int(entry.name))
                except OSError:
                    continue
        return found


@pytest.fixture
def surroundings(tmp_path: Path) -> Surroundings:
    return Surroundings(tmp_path)


def require_success(document: dict[str, Any]) -> dict[str, Any]:
    assert document["error"] is None
    result: dict[str, Any] = document["result"]
    assert [step["title"] for step in result["steps"]] == TITLES
    assert all(step["done"] for step in result["steps"])
    require_that_only_the_change_travelled(result["steps"])
    return result


def require_that_only_the_change_travelled(steps: list[dict[str, Any]]) -> None:
    [first] = [answer["result"]["servers"] for answer in steps[1]["answers"]]
    [planned], second = [answer["result"]["servers"] for answer in steps[3]["answers"]]
    assert planned["plan"]["packages"] == ["~ demo_package 1.0 -> 1.1"]
    for before, after in zip(first, second, strict=True):
        # What is in a package cache there is copied, and the rest is sent.
        assert before["plan"]["fetch_files"] + before["plan"]["copy_files"] > 500
        assert after["plan"]["fetch_files"] < 10
        assert after["wire_bytes"] < 20_000


def test_demo_shows_all_its_steps(surroundings: Surroundings) -> None:
    process = surroundings.start()
    out, err = process.communicate(timeout=170)
    assert err == ""
    assert process.returncode == 0
    for number, title in enumerate(TITLES, 1):
        assert f"\n{number}  {title}\n" in out
    assert re.search(r"\n   demo_package 1\.0 from /.*/server1/envs/demo\n", out)
    assert re.search(r"\n   demo_package 1\.1 from /.*/server2/envs/demo\n", out)
    # Commands name a version as the source does, whose revision differs from the servers' own.
    on_server1, on_server2 = re.findall(r"as published \((\w+)\)", out)
    assert on_server1 == on_server2
    assert f"demo on server1: back at {on_server1} " in out
    assert "envsync: server2: it was changed there since " in out
    assert out.splitlines()[-1].startswith("Everything worked, in ")
    assert surroundings.left() == []
    wait_for_the_end(surroundings)


def test_an_ordinary_user_with_an_environment_of_theirs(
    surroundings: Surroundings, conda_prefix: CondaPrefix
) -> None:
    """Without ssh, sshd and rsync, and with nothing of theirs touched."""
    environment = conda_prefix.environment()
    before = seen_below(conda_prefix.path)
    unshare = str(shutil.which("unshare"))
    result = require_success(
        surroundings.run_json(
            *("--env", str(environment)),
            before=[unshare, *ORDINARY[1:]],
            PATH=str(surroundings.programs),
        )
    )
    assert result["steps"][0]["environment"].endswith(f"/miniconda3/envs/{environment.name}")
    assert seen_below(conda_prefix.path) == before
    assert surroundings.left() == []


def seen_below(path: Path) -> list[tuple[str, int, int, int]]:
    statuses = [(str(below), below.lstat()) for below in sorted(path.rglob("*"))]
    return [(name, s.st_ino, s.st_size, s.st_mtime_ns) for name, s in statuses]


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_demo_that_is_stopped_cleans_up(surroundings: Surroundings, sent: signal.Signals) -> None:
    process = surroundings.start()
    wait_for_push(process)
    process.send_signal(sent)
    _, err = process.communicate(timeout=60)
    assert process.returncode == (130 if sent == signal.SIGINT else -sent)
    assert "envsync: stopped" in err
    assert surroundings.left() == []
    wait_for_the_end(surroundings)


def test_servers_of_a_killed_demo_end(surroundings: Surroundings) -> None:
    process = surroundings.start()
    wait_for_push(process)
    process.kill()
    process.communicate(timeout=60)
    wait_until(lambda: not surroundings.processes(), "its servers have ended", timeout_seconds=30)


def wait_for_the_end(surroundings: Surroundings) -> None:
    """A scan helper ends when it reads the end of its pipe, which may be a moment after."""
    wait_until(lambda: not surroundings.processes(), "all have ended")


def wait_for_push(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if "$ envsync push" in line:
            return
    raise AssertionError("it ended before it pushed")


def test_a_step_that_fails_is_named(surroundings: Surroundings, tmp_path: Path) -> None:
    environment = tmp_path / "prefix" / "envs" / "broken"
    (environment / "conda-meta").mkdir(parents=True)
    (environment / "conda-meta" / "history").touch()
    (environment / "lib" / "python3.11" / "site-packages").mkdir(parents=True)
    (environment / "bin").mkdir()
    (environment / "bin" / "python").symlink_to("/bin/false")
    document = surroundings.run_json("--env", str(environment))
    assert document["error"]["code"] == "source-refused"
    assert document["error"]["details"][-1] == f"in step 1 of the demo: {TITLES[0]}"
    assert surroundings.left() == []


@pytest.mark.parametrize("where", ["nothing", "prefix", "prefix/elsewhere"])
def test_demo_of_a_directory_outside_envs_is_refused(
    surroundings: Surroundings, tmp_path: Path, where: str
) -> None:
    history = tmp_path / "prefix" / "elsewhere" / "conda-meta" / "history"
    history.parent.mkdir(parents=True)
    history.touch()
    document = surroundings.run_json("--env", str(tmp_path / where))
    assert document["error"]["code"] == "usage"
    assert document["error"]["hint"]
    assert surroundings.left() == []
