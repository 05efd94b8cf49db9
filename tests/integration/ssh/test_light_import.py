"""fabric without what a session never uses of its libraries, and with it for whoever does."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version

import pytest

BEGIN = """
import sys
from concurrent.futures import ThreadPoolExecutor
from envsync.ssh.light_import import import_libraries
with ThreadPoolExecutor(4) as pool:
    list(pool.map(lambda _: import_libraries(), range(4)))
import fabric, invoke, paramiko
import json, os
for line in sys.stdin:
    if os.fork() == 0:
        exec(json.loads(line))
        print(json.dumps(said), end="", flush=True)
        os._exit(0)
    os.wait()
    print(flush=True)
"""
Run = Callable[[str], object]


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """What a fork of an interpreter that has imported fabric says to `said`."""
    pipe, argv = subprocess.PIPE, [sys.executable, "-c", BEGIN]
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, text=True) as process:

        def run(program: str) -> object:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps(program) + "\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        yield run


def run_alone(program: str) -> object:
    program = f"import json, sys\n{program}\nprint(json.dumps(said))"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    return json.loads(done.stdout)


def test_modules_that_a_session_never_uses_are_not_imported(run: Run) -> None:
    found = run("said = sorted(sys.modules)")
    assert isinstance(found, list)
    assert not {
        "asyncio",
        "email",
        "importlib.metadata",
        "ssl",
        "unittest",
        "unittest.mock",
        "invoke.vendor.yaml.loader",
        "yaml",
    } & {*found}


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        ("said = invoke.MockContext(run=invoke.Result('out')).run('any').stdout", "out"),
        ("said = invoke.util.yaml.safe_load('a: [1]')", {"a": [1]}),
        ("import unittest.mock; said = unittest.mock.Mock(return_value=1)()", 1),
        ("from unittest.mock import patch; said = patch.__name__", "patch"),
        ("said = fabric.Config(runtime_path=None).run.shell", "/bin/bash"),
        ("said = paramiko.metadata.version('paramiko') == paramiko.__version__", True),
        ("from importlib import metadata; said = metadata.version('click')", version("click")),
        ("said = paramiko.__version__", version("paramiko")),
    ],
)
def test_module_that_is_used_after_all_is_the_real_one(
    program: str, expected: object, run: Run
) -> None:
    assert run(program) == expected


def test_stand_in_gives_a_later_invoke_the_real_module(run: Run) -> None:
    said = run("""
from envsync.ssh import light_import
sys.modules["unittest.mock"] = light_import.StandIn("unittest.mock", Mock=light_import._mock)
from unittest.mock import Mock, patch
said = [patch.__name__, Mock(return_value=2)(), type(sys.modules["unittest.mock"]).__name__]
""")
    assert said == ["patch", 2, "module"]


def test_command_opens_its_links_with_the_light_import() -> None:
    """Nothing listens there; by then all that a link needs has been imported."""
    said = run_alone("""
from envsync.cli.invocation.site import link_opener
from envsync.errors import EnvsyncError
from envsync.inventory import Server
try:
    link_opener(Server(name="nobody", host="127.0.0.1", port=1))()
except EnvsyncError as error:
    assert "fabric" in sys.modules, error
    said = sorted(sys.modules)
""")
    assert isinstance(said, list)
    absent = {"asyncio", "unittest.mock", "invoke.vendor.yaml.loader", "importlib.metadata"}
    assert not absent & {*said}


def test_a_version_that_no_directory_tells_is_asked_for() -> None:
    said = run_alone("""
from envsync.ssh import light_import
said = light_import._version("click")
""")
    assert said == version("click")
