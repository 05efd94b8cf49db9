"""Finds the server's own mamba, micromamba or conda, and makes its command lines."""

from __future__ import annotations

import contextlib
import os
import shutil
from typing import Dict, Iterator, List, Sequence, Tuple

from envsync.agent.server.program_version import version_of
from envsync.agent.server.tool_run import run, tool_environment
from envsync.agent.wire.messages import ToolFacts
from envsync.conda.packages import from_conda_meta_name
from envsync.errors import PreflightRefused

TOOLS = ("mamba", "micromamba", "conda")
_VERSION_SECONDS = 30.0


def find_tool(prefix: str) -> ToolFacts:
    """Return the first tool that starts, with the version it reports; empty facts if there is none.

    Raises `PreflightRefused` if there are tools but none of them starts.
    """
    dead: Dict[str, str] = {}
    for name, path in _candidates(prefix):
        if path in dead:
            continue
        ran = run([path, "--version"], tool_environment({}), _VERSION_SECONDS)
        if ran.status == 0:
            version = next((word for word in ran.output.split() if word[:1].isdigit()), "")
            return ToolFacts(name, path, version[:40])
        dead[path] = ran.why(_VERSION_SECONDS)
    if dead:
        raise PreflightRefused(
            f"no conda tool there can be started: {', '.join(dead)}",
            details=[f"{tool} --version: {why}" for tool, why in dead.items()],
            hint="repair or remove it there, or, where the platforms are the same, use "
            "--method mirror",
        )
    return ToolFacts("", "", "")


def tools(prefix: str) -> Iterator[ToolFacts]:
    """Yield the first tool of each name, in the order in which a rebuild tries them.

    The version of one of the prefix's own is read from conda's records; others are asked for it.
    """
    seen = set()
    for name, path in _candidates(prefix):
        if name not in seen:
            seen.add(name)
            is_own = path.startswith(os.path.join(prefix, ""))
            recorded = _recorded_version(prefix, name) if is_own else ""
            yield ToolFacts(name, path, recorded or version_of(path))


def _candidates(prefix: str) -> Iterator[Tuple[str, str]]:
    """Yield the prefix's own tools, then those on the PATH, each group fastest first."""
    own = os.pathsep.join(os.path.join(prefix, name) for name in ("bin", "condabin"))
    for place in (own, os.environ.get("PATH", "")):
        for name in TOOLS:
            path = shutil.which(name, path=place)
            if path is not None:
                yield name, path


def _recorded_version(prefix: str, name: str) -> str:
    with contextlib.suppress(OSError):
        for package in map(from_conda_meta_name, os.listdir(os.path.join(prefix, "conda-meta"))):
            if package is not None and package.name == name:
                return package.version
    return ""


def create_command(
    tool: ToolFacts, environment: str, channels: Sequence[str], specs_file: str
) -> List[str]:
    """Return the command that creates an environment from a file of specs, one per line."""
    argv = [tool.path, "create", "--yes", "--prefix", environment]
    if channels:
        argv.append("--override-channels")
    for channel in channels:
        argv += ["--channel", channel]
    argv += ["--file", specs_file]
    if tool.name == "conda":
        # The other tools' JSON omits most of what failed.
        argv += ["--no-default-packages", "--json"]
    return argv


def pip_command(python: str, requirements_file: str, *, closed: bool) -> List[str]:
    """Return the command that installs a file's requirements; `closed` if it lists them all."""
    argv = [python, "-m", "pip", "install", "--no-input", "--no-warn-script-location"]
    if closed:
        argv.append("--no-deps")
    return [*argv, "--requirement", requirements_file]
