"""Rebuilds an environment on the target, with the target's own tools.

    the source's requirements -> create there, relaxing what fails -> pip -> into the staging tree

Each try asks for everything at once. The pins that the tool reports as unavailable or in conflict
are relaxed by one step, and the next try is made. Every step is reported and recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from envsync.agent.wire.figures import OnFigure
from envsync.agent.wire.messages import PlanFacts, ToolFacts
from envsync.agent.wire.operation import AnswerT, Operation, RequestT
from envsync.agent.wire.rebuild_operations import (
    CHECK,
    CREATE,
    DISCARD_BUILT,
    FIND_TOOL,
    INSTALL,
    TAKE_BUILT,
    Create,
    Install,
    RunFacts,
)
from envsync.conda.requirements import Requirements
from envsync.errors import EnvsyncError, NoSpace, PreflightRefused, RebuildFailed
from envsync.push.rebuilding import solver_messages
from envsync.push.rebuilding.relaxation import (
    Pin,
    PinPolicy,
    Relaxation,
    conda_pins,
    given_up_builds,
    is_at,
    left_out,
    named_with_address,
    package_names,
    pip_pins,
    relax,
    specs,
)
from envsync.push.rebuilding.solver_messages import (
    CHANNEL,
    CONFLICT,
    NETWORK,
    SPACE,
    UNAVAILABLE,
    ToolFailure,
)
from envsync.transport.job import Ask
from envsync.tree.manifest import Totals

TRIES_MAX = 40
"""The most tries of one tool. A solver may name one package at a time, and takes seconds for it."""

OUTPUT_LINES = 15
_LINE_CHARACTERS = 300

OnTry = Callable[[str, int], None]
"""Is called with a tool's name and the number of the try, before it runs; or, while no tool is
known yet, with what is done instead."""
_NEEDS_A_TOOL = "install conda, mamba or micromamba in the prefix there"


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What is in the staging tree. `changes` are the pins that were relaxed, a line each."""

    plan: PlanFacts
    totals: Totals
    tool: str
    changes: tuple[str, ...]
    warnings: tuple[str, ...]


def find_tool(ask: Ask, prefix: str, other_platform: str) -> ToolFacts:
    """Return the target's own tool. Raises `PreflightRefused` if it has none.

    `other_platform` is as in a `PinPolicy`.
    """
    tool = ask(FIND_TOOL, prefix)
    if not tool.path:
        missing = "there is no mamba, micromamba or conda: neither in the prefix nor on the PATH"
        raise PreflightRefused(
            f"{other_platform}, and {missing}" if other_platform else missing,
            hint=_NEEDS_A_TOOL + ("" if other_platform else ", or use --method mirror"),
        )
    return tool


def tool_label(tool: ToolFacts) -> str:
    """Return, for example, `conda 26.7.1`."""
    return f"{tool.name} {tool.version}".strip()


def unsent(requirements: Requirements, other_platform: str) -> tuple[str, ...]:
    """Return the warning that names what a rebuild leaves behind; none if that is nothing."""
    if not requirements.unowned:
        return ()
    mirror = "" if other_platform else " (--method mirror sends them)"
    names = requirements.unowned
    return (f"files that belong to no package are not sent by a rebuild: {names}{mirror}",)


class Rebuild:
    """A rebuild of one environment on one target.

    `ask` carries out the agent's operations there; `prefix` is the target's.
    """

    def __init__(
        self,
        ask: Ask,
        prefix: str,
        requirements: Requirements,
        policy: PinPolicy,
        on_progress: OnFigure,
        on_try: OnTry,
    ) -> None:
        self._ask = ask
        self._prefix = prefix
        self._requirements = requirements
        self._policy = policy
        self._on_progress = on_progress
        self._on_try = on_try
        self._relaxed: list[Relaxation] = []

    def run(self) -> Rebuilt:
        """Build it and bring it into the staging tree; after a failure, remove what was built."""
        self._on_try("looking for conda", 1)
        tool = find_tool(self._ask, self._prefix, self._policy.other_platform)
        try:
            self._create(tool)
            warnings = unsent(self._requirements, self._policy.other_platform)
            warnings += self._install()
            facts = self._call(TAKE_BUILT, None)
        except EnvsyncError as error:
            self._give_up(error)
            raise
        warnings += tuple(finding.message for finding in facts.findings)
        changes = tuple(map(str, self._relaxed))
        return Rebuilt(facts.plan, facts.totals, tool_label(tool), changes, warnings)

    def _call(self, operation: Operation[RequestT, AnswerT], request: RequestT) -> AnswerT:
        return self._ask(operation, request, on_progress=self._on_progress)

    def _give_up(self, error: EnvsyncError) -> None:
        """Remove what was built. If the link is lost, the next push to that target does it."""
        try:
            self._ask(DISCARD_BUILT, None)
        except EnvsyncError as second:
            error.__context__ = second

    def _create(self, tool: ToolFacts) -> None:
        policy, requirements = self._policy, self._requirements
        self._relaxed += left_out(requirements, policy)
        self._relaxed += given_up_builds(requirements, policy)
        pins = conda_pins(requirements, policy)
        if not pins:
            raise RebuildFailed(
                "the source has no conda packages"
                + (" that were requested by name" if policy.from_history else ""),
                hint="install its packages with conda at the source" + self._or_send("mirror"),
            )

        def create(pins: Sequence[Pin]) -> RunFacts:
            channels = requirements.channels
            request = Create(tool, self._prefix, channels, specs(pins), package_names(pins))
            return self._call(CREATE, request)

        self._until_it_succeeds(tool_label(tool), pins, create, solver_messages.read_conda)

    def _install(self) -> tuple[str, ...]:
        """Install pip's packages; return what `pip check` reports if one of them was relaxed."""
        policy = self._policy
        pins = pip_pins(self._requirements, policy)
        if not pins:
            return ()

        def install(pins: Sequence[Pin]) -> RunFacts:
            return self._call(INSTALL, Install(specs(pins), closed=not policy.from_history))

        before = len(self._relaxed)
        self._until_it_succeeds("pip", pins, install, solver_messages.read_pip)
        if len(self._relaxed) == before:
            return ()
        self._on_try("pip check", 1)
        check = self._call(CHECK, None)
        lines = check.output.splitlines() if check.status else []
        return tuple(f"pip check there: {line.strip()}" for line in lines if line.strip())

    def _until_it_succeeds(
        self,
        tool: str,
        pins: tuple[Pin, ...],
        attempt: Callable[[Sequence[Pin]], RunFacts],
        read: Callable[[str], ToolFailure],
    ) -> None:
        for number in range(1, TRIES_MAX + 1):
            self._on_try(tool, number)
            run = attempt(pins)
            if run.status == 0:
                return
            failure = _in_a_line(read(run.output))
            pins, relaxations = relax(pins, failure)
            if not relaxations:
                raise self._failure(tool, failure, run.output, pins)
            self._relaxed += relaxations
        raise RebuildFailed(
            f"{tool} there still cannot install what is required after {TRIES_MAX} tries",
            details=[f"relaxed: {relaxation}" for relaxation in self._relaxed],
            hint="correct the first of these at the source" + self._or_from_history,
        )

    def _failure(
        self, tool: str, failure: ToolFailure, output: str, pins: Sequence[Pin]
    ) -> EnvsyncError:
        if failure.kind == SPACE:
            message = f"{tool} there ran out of space: {failure.summary}"
            details = self._details(message, output)
            return NoSpace(message, details=details, hint="free some space there")
        if failure.kind == NETWORK:
            message = f"{tool} there cannot reach the servers that have the packages"
            hint = "give that server access to them (proxy, mirror)"
            hint += self._or_send("mirror or pack")
        elif failure.kind == CHANNEL:
            message = f"{tool} there cannot find a channel of the source: {failure.summary}"
            hint = "give that server access to it" + self._or_send("mirror or pack")
        elif own := named_with_address(pins, failure):
            # conda-pack refuses editable installs.
            methods = "mirror" if own[0].spec.startswith("-e ") else "mirror or pack"
            message, hint = _without_its_address(own[0], failure)
            hint += self._or_send(methods)
        elif failure.kind in (UNAVAILABLE, CONFLICT):
            message = f"{tool} there cannot install {', '.join(failure.names or failure.addresses)}"
            hint = "remove or replace it at the source" + self._or_from_history
        else:
            message = f"{tool} there failed: {failure.summary}"
            hint = "try the same there by hand" + self._or_send("mirror")
        return RebuildFailed(message, details=self._details(message, output), hint=hint)

    def _or_send(self, methods: str) -> str:
        """Return the end of a hint: these send the files, where the source's can run."""
        return "" if self._policy.other_platform else f", or use --method {methods}"

    @property
    def _or_from_history(self) -> str:
        return "" if self._policy.from_history else ", or use --from-history"

    def _details(self, message: str, output: str) -> list[str]:
        """Return what was relaxed, and the end of what the tool said beyond the message."""
        relaxed = [f"relaxed: {relaxation}" for relaxation in self._relaxed]
        lines = [line[:_LINE_CHARACTERS] for line in solver_messages.lines(output)]
        more = [line for line in lines if line.strip().removeprefix("ERROR: ") not in message]
        return [*relaxed, *more[-OUTPUT_LINES:]]


def _without_its_address(pin: Pin, failure: ToolFailure) -> tuple[str, str]:
    """Return the message and hint for a package that did not come from an index."""
    is_gone = is_at(pin, failure)
    what = "which is not there" if is_gone else f"and cannot be installed there: {failure.summary}"
    is_path = pin.address.startswith("file:")
    ways = ["copy it there" if is_path else "give that server access to it"] if is_gone else []
    ways.append("at the source, install it from an index or uninstall it")
    return f"{pin.name} came from {pin.address}, {what}", ", or ".join(ways)


def _in_a_line(failure: ToolFailure) -> ToolFailure:
    """Make a tool's words, which may be anything, one printable line for messages and records."""
    reasons = {name: _line(reason) for name, reason in failure.reasons.items()}
    return replace(failure, summary=_line(failure.summary), reasons=reasons)


def _line(words: str) -> str:
    if not words.isprintable():
        words = words.encode("unicode_escape").decode("ascii")
    return words[:_LINE_CHARACTERS]
