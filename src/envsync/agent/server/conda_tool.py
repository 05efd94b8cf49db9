"""The server's own mamba, micromamba or conda: where it is, and what it is asked to do."""

from __future__ import annotations

import contextlib
import os
import shutil
from typing import Iterator, List, Sequence, Tuple

from envsync.agent.server.program_version import ToolFacts, version_of
from envsync.agent.server.tool_run import run, tool_environment

TOOLS = ("mamba", "micromamba", "conda")
_VERSION_SECONDS = 30.0


def find_tool(prefix: str) -> ToolFacts:
    """The one that a rebuild takes, as it says that it is; all empty where there is none."""
    for name, path in _candidates(prefix):
        said = run([path, "--version"], tool_environment({}), _VERSION_SECONDS)
        words = said.output.split() if said.status == 0 else []
        version = next((word for word in words if word[:1].isdigit()), "")
        return ToolFacts(name, path, version[:40])
    return ToolFacts("", "", "")


def tools(prefix: str) -> Iterator[ToolFacts]:
    """Each that is there, the one that a rebuild takes first; conda's records tell the version of
    the prefix's own."""
    seen = set()
    for name, path in _candidates(prefix):
        if name not in seen:
            seen.add(name)
            is_own = path.startswith(os.path.join(prefix, ""))
            recorded = _recorded_version(prefix, name) if is_own else ""
            yield ToolFacts(name, path, recorded or version_of(path))


def _candidates(prefix: str) -> Iterator[Tuple[str, str]]:
    """The prefix's own tools, then those on the PATH; of either the quickest first."""
    own = os.pathsep.join(os.path.join(prefix, name) for name in ("bin", "condabin"))
    for place in (own, os.environ.get("PATH", "")):
        for name in TOOLS:
            path = shutil.which(name, path=place)
            if path is not None:
                yield name, path


def _recorded_version(prefix: str, name: str) -> str:
    with contextlib.suppress(OSError):
        for file in os.listdir(os.path.join(prefix, "conda-meta")):
            parts = file[: -len(".json")].rsplit("-", 2) if file.endswith(".json") else []
            if len(parts) == 3 and parts[0] == name:
                return parts[1]
    return ""


def create_command(
    tool: ToolFacts, environment: str, channels: Sequence[str], specs_file: str
) -> List[str]:
    """The command that makes an environment of the specs in a file, one a line."""
    argv = [tool.path, "create", "--yes", "--prefix", environment]
    if channels:
        argv.append("--override-channels")
    for channel in channels:
        argv += ["--channel", channel]
    argv += ["--file", specs_file]
    if tool.name == "conda":
        # The others' JSON leaves out most of what failed.
        argv += ["--no-default-packages", "--json"]
    return argv


def pip_command(python: str, requirements_file: str, *, closed: bool) -> List[str]:
    """The command that installs what a file asks for; `closed` where it names everything."""
    argv = [python, "-m", "pip", "install", "--no-input", "--no-warn-script-location"]
    if closed:
        argv.append("--no-deps")
    return [*argv, "--requirement", requirements_file]
