"""Operations that rebuild an environment with a server's own tools.

They are called in this order, after `INSPECT_TARGET` with its lock: `FIND_TOOL`, `CREATE` until it
succeeds, perhaps `INSTALL` until it does, and `CHECK`; `TAKE_BUILT`; then those of
`build_operations`. `DISCARD_BUILT` gives up.
"""

from __future__ import annotations

from typing import NamedTuple, Tuple

from envsync.agent.wire.messages import Finding, PlanFacts, ToolFacts
from envsync.agent.wire.operation import Operation
from envsync.conda.requirements import Requirements
from envsync.tree.manifest import Totals


class Create(NamedTuple):
    """Asks to run the tool once; `names` are the packages that the `specs` ask for."""

    tool: ToolFacts
    prefix: str
    channels: Tuple[str, ...]
    specs: Tuple[str, ...]
    names: Tuple[str, ...]


class Install(NamedTuple):
    """Asks to run pip once; `closed` if the requirements are all that is to be installed."""

    requirements: Tuple[str, ...]
    closed: bool


class RunFacts(NamedTuple):
    """How a tool ended on a target, and the end of its output."""

    status: int
    output: str


class RebuiltFacts(NamedTuple):
    """An environment that a target's own tools built, after it was taken into the staging tree."""

    plan: PlanFacts
    totals: Totals
    findings: Tuple[Finding, ...]


REQUIREMENTS = Operation[None, Requirements]("rebuild.requirements")
"""What it takes to build the open source again elsewhere."""
FIND_TOOL = Operation[str, ToolFacts]("rebuild.find_tool")
"""Finds the tool of that prefix."""
CREATE = Operation[Create, RunFacts]("rebuild.create")
INSTALL = Operation[Install, RunFacts]("rebuild.install")
CHECK = Operation[None, RunFacts]("rebuild.check")
TAKE_BUILT = Operation[None, RebuiltFacts]("rebuild.take_built")
"""Brings what was built into the staging tree, under its final name."""
DISCARD_BUILT = Operation[None, None]("rebuild.discard_built")
