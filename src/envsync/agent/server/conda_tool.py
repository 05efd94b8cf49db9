"""The server's own mamba, micromamba or conda: where it is, and what it is asked to do."""

from __future__ import annotations

import os
import shutil
from typing import Iterator, List, NamedTuple, Optional, Sequence, Tuple

from envsync.agent.server.tool_run import run, tool_environment

TOOLS = ("mamba", "micromamba", "conda")
_VERSION_SECONDS = 30.0


class ToolFacts(NamedTuple):
    """A tool; all empty where there is none."""

    kind: str
    path: str
    version: str


def find_tool(prefix: str) -> ToolFacts:
    """The prefix's own tool, else one on the PATH; the quickest of those that are there."""
    for kind, path in _candidates(prefix):
        if path is not None:
            said = run([path, "--version"], tool_environment({}), _VERSION_SECONDS)
            words = said.output.split() if said.status == 0 else []
            version = next((word for word in words if word[:1].isdigit()), "")
            return ToolFacts(kind, path, version[:40])
    return ToolFacts("", "", "")


def _candidates(prefix: str) -> Iterator[Tuple[str, Optional[str]]]:
    own = os.pathsep.join(os.path.join(prefix, name) for name in ("bin", "condabin"))
    for place in (own, os.environ.get("PATH", "")):
        for kind in TOOLS:
            yield kind, shutil.which(kind, path=place)


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
    if tool.kind == "conda":
        # The others' JSON leaves out most of what failed.
        argv += ["--no-default-packages", "--json"]
    return argv


def pip_command(python: str, requirements_file: str, *, closed: bool) -> List[str]:
    """The command that installs what a file asks for; `closed` where it names everything."""
    argv = [python, "-m", "pip", "install", "--no-input", "--no-warn-script-location"]
    if closed:
        argv.append("--no-deps")
    return [*argv, "--requirement", requirements_file]
