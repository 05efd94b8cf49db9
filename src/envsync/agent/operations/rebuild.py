"""Operations that rebuild an environment with the server's own tools."""

from __future__ import annotations

import os
import re
from typing import ContextManager, Dict, Iterator, List, Optional, Tuple

from envsync.agent.operations.service import Service, handles
from envsync.agent.server.conda_tool import create_command, find_tool, pip_command
from envsync.agent.server.tool_run import run, tool_environment
from envsync.agent.staging import side_place
from envsync.agent.staging.build_plan import OWN, Holding
from envsync.agent.staging.side_build import SideBuild
from envsync.agent.target.preparation import content_findings
from envsync.agent.wire.figures import COPIED_BYTES, HASHED_BYTES
from envsync.agent.wire.messages import ToolFacts
from envsync.agent.wire.rebuild_operations import (
    CHECK,
    CREATE,
    DISCARD_BUILT,
    FIND_TOOL,
    INSTALL,
    REQUIREMENTS,
    TAKE_BUILT,
    Create,
    Install,
    RebuiltFacts,
    RunFacts,
)
from envsync.conda.metadata import SITE_PACKAGES
from envsync.conda.ownership import unowned
from envsync.conda.packages import RECORD_MAX_BYTES
from envsync.conda.requirements import Requirements, requirements
from envsync.errors import AgentFailed, TransferFailed, listed
from envsync.tree.entry import DIRECTORY, join
from envsync.tree.manifest import Manifest

TOOL_SECONDS = 7200.0
"""The time limit of one run, which may download some gigabytes over a slow link."""

_NAMES_SHOWN = 12
_WITH_RECORDS = re.compile(rb"conda-meta|" + SITE_PACKAGES + rb"(?:/[^/]+\.(?:dist|egg)-info)?")


@handles(REQUIREMENTS)
def _requirements(service: Service, _: None) -> Requirements:
    """Return the requirements for rebuilding the source elsewhere, by its packages' records."""
    source = service.source.version
    manifest = source.manifest()

    def read(path: bytes) -> Optional[bytes]:
        return source.read(path, RECORD_MAX_BYTES)

    owned = requirements(_paths_of_records(manifest), read)
    names = [os.fsdecode(path) for path in unowned(_files(manifest), read)]
    return owned._replace(unowned=listed(names, _NAMES_SHOWN))


def _files(manifest: Manifest) -> List[bytes]:
    return [
        join(directory, entry.name)
        for directory in manifest.directories
        for entry in manifest.entries(directory)
        if entry.kind != DIRECTORY
    ]


def _paths_of_records(manifest: Manifest) -> Iterator[bytes]:
    for directory in filter(_WITH_RECORDS.fullmatch, manifest.directories):
        yield directory
        for entry in manifest.entries(directory):
            yield join(directory, entry.name)


@handles(FIND_TOOL)
def _find_tool(_: Service, prefix: str) -> ToolFacts:
    return find_tool(prefix)


@handles(CREATE)
def _create(service: Service, request: Create) -> RunFacts:
    """Run the tool once, at a path where nothing is yet."""
    service.build = build = SideBuild(service.push.locked_places())
    build.begin()
    environment = os.fsdecode(build.path)
    channels, names = _lines(request.channels), _lines(request.names)
    with _file(service, request.specs) as path:
        argv = create_command(request.tool, environment, channels, path)
        facts = _run(service, argv, {"MAMBA_ROOT_PREFIX": request.prefix})
    if facts.status == 0:
        # Some tools have treated a solver's failure as success.
        missing = {name.lower() for name in names} - set(build.packages())
        if missing:
            lines = [f"nothing provides requested {name}" for name in sorted(missing)]
            facts = facts._replace(status=1, output="\n".join([facts.output, *lines]))
    return facts


@handles(INSTALL)
def _install(service: Service, request: Install) -> RunFacts:
    python = os.path.join(os.fsdecode(_build(service).path), "bin", "python")
    if not os.path.exists(python):
        return RunFacts(1, "there is no Python in the environment")
    with _file(service, request.requirements) as path:
        return _run(service, pip_command(python, path, closed=request.closed), {})


@handles(CHECK)
def _check(service: Service, _: None) -> RunFacts:
    """Return what `pip check` reports about the environment that was built."""
    python = os.path.join(os.fsdecode(_build(service).path), "bin", "python")
    return _run(service, [python, "-m", "pip", "check"], {})


@handles(TAKE_BUILT)
def _take_built(service: Service, _: None) -> RebuiltFacts:
    build = _build(service)
    build.finish()
    progress = service.counted(HASHED_BYTES)
    snapshot = service.target.trees.snapshot(build.path, progress=progress)
    wanted = snapshot.manifest()
    further = [Holding(build.path, wanted, OWN)]
    staged = service.push.stage(wanted, service.counted(COPIED_BYTES), further)
    if staged.fetches:
        raise TransferFailed(f"{len(staged.fetches)} files changed while they were copied there")
    side_place.discard(service.target.layout)
    findings = content_findings(wanted) + staged.findings
    return RebuiltFacts(staged.facts, snapshot.totals, findings)


@handles(DISCARD_BUILT)
def _discard(service: Service, _: None) -> None:
    service.push.locked_places()
    side_place.discard(service.target.layout)


def _build(service: Service) -> SideBuild:
    if service.build is None:
        raise AgentFailed("nothing is being built")
    return service.build


def _lines(texts: Tuple[str, ...]) -> Tuple[str, ...]:
    """Return the texts. Raises `AgentFailed` if a tool would parse one as a long option, or as more
    than one line."""
    if not all(text.isprintable() and not text.startswith("--") for text in texts):
        raise AgentFailed("received an invalid list of lines")
    return texts


def _file(service: Service, lines: Tuple[str, ...]) -> ContextManager[str]:
    """Write a file of lines for a tool, which exists until the block ends."""
    return side_place.wanted_file(service.target.layout, _lines(lines))


def _run(service: Service, argv: List[str], extra: Dict[str, str]) -> RunFacts:
    ran = run(argv, tool_environment(extra), TOOL_SECONDS)
    if ran.status is None:
        return RunFacts(1, f"{ran.output}\ntimed out after {TOOL_SECONDS:g} s")
    return RunFacts(ran.status, ran.output)
