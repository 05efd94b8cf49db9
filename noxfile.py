"""The sessions behind `./run tests`: lint, types, unit, integration.

They all use the environment that `./run` has made and put first in PATH.
"""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from pathlib import Path

import nox

nox.options.default_venv_backend = "none"
nox.options.error_on_external_run = False

# The modules that also run on servers, with Python 3.8 or newer.
STREAMED = [
    f"src/envsync/{name}"
    for name in ("__init__.py", "errors.py", "files", "texts", "tree", "conda", "agent")
]

MEMORY = "/dev/shm"


def compile_once(session: nox.Session) -> None:
    """Compile bytecode for the hundreds of commands that tests start, which write none."""
    session.run(sys.executable, "-m", "compileall", "-q", "src", "bench", silent=True)


def which(default: str, options: list[str]) -> list[str]:
    """Return pytest's arguments: `options`, and `default` unless they name tests."""
    is_named = any(option.startswith("tests/") for option in options)
    return options if is_named else [default, *options]


def in_parts(session: nox.Session, directory: str, count: int, env: dict[str, str]) -> None:
    """Divide a directory's test modules among so many pytests, which run at the same time.

    Quick tests do not pay for xdist: a fifth of the processor time went into collecting every test
    in each of its processes, and into their messages. The parts are about equal in size, and each
    has whole directories as far as possible, so that it imports little of what the others do.
    """
    modules = sorted(Path(directory).rglob("test_*.py"))
    ends = list(accumulate(module.stat().st_size for module in modules))
    dealt: list[list[Path]] = [[] for _ in range(count)]
    for module, end in zip(modules, ends, strict=True):
        dealt[(end - 1) * count // ends[-1]].append(module)
    # The parts would overwrite each other's list of failures.
    pytest = [sys.executable, "-m", "pytest", "--quiet", "-p", "no:xdist", "-p", "no:cacheprovider"]

    def run(part: list[Path]) -> subprocess.CompletedProcess[str]:
        pipe, both = subprocess.PIPE, subprocess.STDOUT
        return subprocess.run(
            [*pytest, *part], check=False, env=os.environ | env, stdout=pipe, stderr=both, text=True
        )

    with ThreadPoolExecutor(count) as pool:
        parts = list(pool.map(run, filter(None, dealt)))
    for part in parts:
        sys.stdout.write(part.stdout)
    if any(part.returncode for part in parts):
        session.error("a test failed, see above")


@nox.session
def lint(session: nox.Session) -> None:
    """Style, likely bugs, the layers, and the oldest Python of the streamed modules."""
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("lint-imports", "--no-cache")
    session.run("vermin", "--target=3.8-", "--violations", "--no-tips", *STREAMED)


@nox.session
def types(session: nox.Session) -> None:
    """Strict types, in the tests too."""
    session.run("mypy")


@nox.session
def unit(session: nox.Session) -> None:
    """The tests without servers."""
    # The tests' files are in memory, because the speed of a disk is not what is tested.
    compile_once(session)
    env = {"TMPDIR": MEMORY} if os.access(MEMORY, os.W_OK) else {}
    # Or each process would have to rewrite the tests' assertions itself.
    env["PYTHONDONTWRITEBYTECODE"] = ""
    # One more process than processors, because they wait a third of the time.
    processes = (os.cpu_count() or 1) + 1
    if session.posargs:
        options = [f"--numprocesses={processes}", "--dist=worksteal"]
        session.run("pytest", *options, *which("tests/unit", session.posargs), env=env)
    else:
        in_parts(session, "tests/unit", processes, env)


@nox.session
def integration(session: nox.Session) -> None:
    """The tests with real environments and real sshds."""
    compile_once(session)
    # By module, because its tests share hosts. Three processes, because the tests often wait.
    # The longest modules come first (tests/conftest.py).
    options = ["--numprocesses=3", "--dist=loadfile", "--no-loadscope-reorder"]
    session.run("pytest", *options, *which("tests/integration", session.posargs))
