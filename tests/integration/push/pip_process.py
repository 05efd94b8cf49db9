"""A real pip on a host of the lab, that installs a wheel of many files into `myenv`."""

from __future__ import annotations

import contextlib
import importlib.util
import zipfile
from collections.abc import Iterator
from pathlib import Path

from tests.integration.push.places import environment, site_packages
from tests.lab.lab import LabHost
from tests.lab.namespaces import EnteredProcess
from tests.support.processes import state_of, wait_until

NAME, VERSION = "labmany", "1.0"
MODULES = 300
_PLACE = "/run/lab/pip"
_STOPPING = "/run/lab/pip-stops"

AT_ONCE, HALF_DONE = "at once", "half done"
"""When a pip stops itself (SIGSTOP): with nothing written yet, or in the middle of its files."""

# By Python's own start, so that the pip is as it is; in the place of another `sitecustomize`,
# which conda's Python of a Debian has, and which comes first.
_STOPS = f"""
import importlib.machinery, importlib.util, os, signal, sys

elsewhere = [path for path in sys.path if path != os.path.dirname(__file__)]
other = importlib.machinery.PathFinder.find_spec(__name__, elsewhere)
if other is not None:
    other.loader.exec_module(importlib.util.module_from_spec(other))

def stop_at_the_middle_one(event, arguments):
    if event == "open" and str(arguments[0]).endswith("/{NAME}/module_{MODULES // 2}.py"):
        if "w" in str(arguments[1]):
            os.kill(os.getpid(), signal.SIGSTOP)

if os.environ["PIP_STOPS"] == {AT_ONCE!r}:
    os.kill(os.getpid(), signal.SIGSTOP)
else:
    sys.addaudithook(stop_at_the_middle_one)
"""


def _write_wheel(directory: Path) -> str:
    path = directory / f"{NAME}-{VERSION}-py3-none-any.whl"
    info = f"{NAME}-{VERSION}.dist-info"
    contents = {f"{NAME}/module_{number}.py": f"number = {number}\n" for number in range(MODULES)}
    contents[f"{NAME}/__init__.py"] = f"__version__ = {VERSION!r}\n"
    contents[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: {NAME}\nVersion: {VERSION}\n"
    contents[f"{info}/WHEEL"] = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    contents[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in (*contents, f"{info}/RECORD"))
    with zipfile.ZipFile(path, "w") as wheel:
        for name, content in contents.items():
            wheel.writestr(name, content)
    return path.name


def _interpreter(host: LabHost) -> str:
    return f"{host.prefix}/envs/myenv/bin/python"


def start_pip(
    host: LabHost,
    command: str = "install",
    *options: str,
    python: str = "",
    cwd: str = "/",
    stops: str = "",
) -> EnteredProcess:
    """`python -m pip install labmany` (or uninstall), by the environment's own interpreter."""
    place = host.path(_PLACE)
    place.mkdir(exist_ok=True)
    wheel = _write_wheel(place)
    what = [NAME] if command == "uninstall" else ["--no-index", "--no-deps", f"{_PLACE}/{wheel}"]
    argv, environ = pip_argv(host, command, *options, *what, python=python)
    if stops:
        host.write_file(f"{_STOPPING}/sitecustomize.py", _STOPS)
        environ = {"PYTHONPATH": f"{_STOPPING}:{environ['PYTHONPATH']}", "PIP_STOPS": stops}
    return host.popen(argv, env=environ, cwd=cwd)


def wait_stopped(process: EnteredProcess) -> None:
    """Until a pip that `stops` stands still."""

    def stands_still() -> bool:
        pid = process.inner_pid()
        assert pid is not None, "it ended before it stopped"
        return state_of(pid) == "T"

    wait_until(stands_still, "pip stands still", timeout_seconds=30)


def pip_argv(host: LabHost, *arguments: str, python: str = "") -> tuple[list[str], dict[str, str]]:
    """The command line of a real pip, and the variables that it needs to be found."""
    spec = importlib.util.find_spec("pip")
    assert spec is not None, "there is no pip beside the tests' own interpreter"
    assert spec.origin is not None
    place = host.path(_PLACE)
    place.mkdir(exist_ok=True)
    with contextlib.suppress(FileExistsError):
        (place / "pip").symlink_to(Path(spec.origin).parent)
    argv = [python or _interpreter(host), "-m", "pip", *arguments]
    return argv, {"PYTHONPATH": _PLACE}


@contextlib.contextmanager
def pip_at_work(
    host: LabHost, *, half_done: bool = False, python: str = "", cwd: str = "/"
) -> Iterator[EnteredProcess]:
    """pip stands still: it has just begun, or is in the middle of its files.

    Afterwards it goes on to its end, which has to be a good one.
    """
    stops = HALF_DONE if half_done else AT_ONCE
    process = start_pip(host, python=python, cwd=cwd, stops=stops)
    try:
        wait_stopped(process)
        yield process
    finally:
        process.thaw()
        out, err = process.communicate(timeout=40)
    assert process.returncode == 0, (out, err)


def can_import(host: LabHost) -> bool:
    """Whether everything of the wheel is in the environment that stands there."""
    code = f"import {NAME}.module_{MODULES - 1}, {NAME}; print({NAME}.__version__)"
    done = host.run([environment_python(host), "-c", code], check=False)
    files = list((site_packages(host) / NAME).glob("*.py")) if done.returncode == 0 else []
    return len(files) == MODULES + 1


def environment_python(host: LabHost) -> str:
    assert environment(host).exists()
    return _interpreter(host)
