"""The sessions behind `./run tests`: lint, types, unit, integration.

They all use the one environment that `./run` made and put first in PATH.
"""

import os
import sys

import nox

nox.options.default_venv_backend = "none"
nox.options.error_on_external_run = False

# Where the modules are that run on servers, on Python 3.8.
STREAMED = [
    f"src/envsync/{name}"
    for name in ("__init__.py", "errors.py", "files", "tree", "conda", "agent")
]

MEMORY = "/dev/shm"


def compile_once(session: nox.Session) -> None:
    """Bytecode for the hundreds of commands that tests start: they are told to write none."""
    session.run(sys.executable, "-m", "compileall", "-q", "src", "bench", silent=True)


def which(default: str, options: list[str]) -> list[str]:
    """What pytest is given: the tests that somebody named, or else all of them."""
    is_named = any(option.startswith("tests/") for option in options)
    return options if is_named else [default, *options]


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
    """The pure layers, by table and by property."""
    # Their files in memory: what is written is tested, not how long a disk takes for it.
    compile_once(session)
    env = {"TMPDIR": MEMORY} if os.access(MEMORY, os.W_OK) else {}
    env["PYTHONDONTWRITEBYTECODE"] = ""  # what pytest rewrites, each process would write again
    # One more than there are processors: a third of the time passes in waiting.
    options = [f"--numprocesses={(os.cpu_count() or 1) + 1}", "--dist=worksteal"]
    session.run("pytest", *options, *which("tests/unit", session.posargs), env=env)


@nox.session
def integration(session: nox.Session) -> None:
    """Real environments over real sshds."""
    compile_once(session)
    # A module at a time: its tests share hosts. Three at once, for they often wait.
    # The longest modules first (tests/conftest.py).
    options = ["--numprocesses=3", "--dist=loadfile", "--no-loadscope-reorder"]
    session.run("pytest", *options, *which("tests/integration", session.posargs))
