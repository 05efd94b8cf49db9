"""Operations that rebuild an environment with the server's own tools.

They are called in this order, after `target.inspect` with its lock: `tool`, `create` until it
succeeds, perhaps `pip` until it does, and `check`; `stage`; then `build.complete` and
`build.publish`. `discard` gives up.
"""

from __future__ import annotations

import os
from typing import ContextManager, Dict, List, Tuple

from envsync.agent.operations.service import PROGRESS_SECONDS, Answer, Request, Service
from envsync.agent.server.conda_tool import create_command, find_tool, pip_command
from envsync.agent.server.program_version import ToolFacts
from envsync.agent.server.tool_run import run, tool_environment
from envsync.agent.staging import side_build
from envsync.agent.staging.side_build import SideBuild
from envsync.agent.staging.staging import Holding
from envsync.agent.staging.writing import space_guard
from envsync.agent.target.preparation import content_findings
from envsync.agent.target.queries import OWN
from envsync.agent.wire.checked_json import from_json
from envsync.agent.wire.messages import RebuiltFacts
from envsync.agent.wire.short_answers import RunFacts
from envsync.errors import AgentFailed, TransferFailed

TOOL_SECONDS = 7200.0
"""The time limit of one run, which may download some gigabytes over a slow link."""


def _tool(service: Service, request: Request) -> Answer:
    return Answer(find_tool(request.arguments["prefix"]))


def _create(service: Service, request: Request) -> Answer:
    """Run the tool once, at a path where nothing is yet."""
    arguments = request.arguments
    tool = from_json(ToolFacts, arguments["tool"])
    service.build = build = SideBuild(service.push.locked_places())
    with space_guard():
        build.begin()
    environment = os.fsdecode(build.path)
    with _file(service, arguments["specs"]) as path:
        argv = create_command(tool, environment, _texts(arguments["channels"]), path)
        facts = _run(service, argv, {"MAMBA_ROOT_PREFIX": arguments["prefix"]})
    if facts.status == 0:
        # Some tools have treated a solver's failure as success.
        missing = {name.lower() for name in _texts(arguments["names"])} - set(build.packages())
        if missing:
            lines = [f"nothing provides requested {name}" for name in sorted(missing)]
            facts = facts._replace(status=1, output="\n".join([facts.output, *lines]))
    return Answer(facts)


def _pip(service: Service, request: Request) -> Answer:
    arguments, build = request.arguments, _build(service)
    python = os.path.join(os.fsdecode(build.path), "bin", "python")
    if not os.path.exists(python):
        return Answer(RunFacts(1, "there is no Python in the environment"))
    with _file(service, arguments["requirements"]) as path:
        argv = pip_command(python, path, closed=bool(arguments["closed"]))
        return Answer(_run(service, argv, {}))


def _check(service: Service, request: Request) -> Answer:
    """Return what `pip check` reports about the environment that was built."""
    python = os.path.join(os.fsdecode(_build(service).path), "bin", "python")
    return Answer(_run(service, [python, "-m", "pip", "check"], {}))


def _stage(service: Service, request: Request) -> Answer:
    """Bring what was built into the staging tree, under its final name."""
    build = _build(service)
    with space_guard():
        build.finish()
    progress = service.counted("hash")
    snapshot = service.target.trees.snapshot(build.path, progress=progress)
    wanted = snapshot.manifest()
    beside = [Holding(build.path, wanted, OWN)]
    plan, fetches = service.push.stage(wanted, service.counted("copy"), beside)
    if fetches:
        raise TransferFailed(f"{len(fetches)} files changed while they were copied there")
    side_build.discard(service.target.places)
    findings = content_findings(wanted) + service.push.findings
    return Answer(RebuiltFacts(plan, snapshot.totals, findings))


def _discard(service: Service, request: Request) -> Answer:
    service.push.locked_places()
    side_build.discard(service.target.places)
    return Answer({})


def _build(service: Service) -> SideBuild:
    if service.build is None:
        raise AgentFailed("nothing is being built")
    return service.build


def _texts(value: object) -> Tuple[str, ...]:
    if not isinstance(value, list) or not all(_is_line(text) for text in value):
        raise AgentFailed("received an invalid list of lines")
    return tuple(value)


def _is_line(text: object) -> bool:
    """Return False for what a tool would parse as a long option, or as more than one line."""
    return isinstance(text, str) and text.isprintable() and not text.startswith("--")


def _file(service: Service, lines: object) -> ContextManager[str]:
    """Write a file of lines for a tool, which exists until the block ends."""
    return side_build.wanted_file(service.target.places, _texts(lines))


def _run(service: Service, argv: List[str], extra: Dict[str, str]) -> RunFacts:
    ticks = 0

    def tick() -> None:
        nonlocal ticks
        ticks += 1
        service.tell({"tool_seconds": int(ticks * PROGRESS_SECONDS)})

    ran = run(argv, tool_environment(extra), TOOL_SECONDS, tick)
    if ran.status is None:
        return RunFacts(1, f"{ran.output}\ntimed out after {TOOL_SECONDS:g} s")
    return RunFacts(ran.status, ran.output)


OPERATIONS = {
    "tool": _tool,
    "create": _create,
    "pip": _pip,
    "check": _check,
    "stage": _stage,
    "discard": _discard,
}
