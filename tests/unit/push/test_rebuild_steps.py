"""What a rebuild does about failures, against a target that answers as told."""

from __future__ import annotations

from typing import Any

import pytest

from envsync.agent.wire.messages import PlanFacts, ToolFacts
from envsync.agent.wire.operation import Operation
from envsync.agent.wire.rebuild_operations import FIND_TOOL, TAKE_BUILT, RebuiltFacts, RunFacts
from envsync.conda.requirements import CondaRequirement, PipRequirement, Requirements
from envsync.errors import NoSpace, PreflightRefused, RebuildFailed
from envsync.push.rebuilding.rebuild import TRIES_MAX, Rebuild
from envsync.push.rebuilding.relaxation import PinPolicy
from envsync.tree.manifest import Totals

WANTED = Requirements(
    ("https://conda.example/lab",),
    (CondaRequirement("numpy", "1.26.4", "py_0", "linux-64"),),
    (PipRequirement("idna", "3.4", "", False, True),),
    (),
)
ARM = "the source is for the architecture x86_64, the target is aarch64"
TOOL = ToolFacts("mamba", "/p/bin/mamba", "1.5.8")
PLAN = PlanFacts("new", 0, 0, 0, 0, 0, 0, (), 0, ())
FACTS = RebuiltFacts(PLAN, Totals(1, 1, 1), ())


def _ignore(_what: str, _number: int) -> None:
    pass


class Target:
    """Answers each operation with the next of its outputs; an empty one is success."""

    def __init__(self, **said: list[str]) -> None:
        self.said = said
        self.asked: list[tuple[str, Any]] = []
        self.tool = TOOL
        self.runs: list[tuple[str, int]] = []

    def __call__(
        self, operation: Operation[Any, Any], request: Any, *_: object, **__: object
    ) -> Any:
        name = operation.name.partition(".")[2]
        self.asked.append((name, request))
        if operation is FIND_TOOL:
            return self.tool
        if operation is TAKE_BUILT:
            return FACTS
        outputs = self.said.get(name) or [""]
        output = outputs.pop(0) if len(outputs) > 1 else outputs[0]
        return RunFacts(int(bool(output)), output)

    def rebuild(self, *, other_platform: str = "") -> tuple[str, ...]:
        policy = PinPolicy(other_platform)
        rebuild = Rebuild(self, "/p", WANTED, policy, _ignore, lambda *run: self.runs.append(run))
        return rebuild.run().changes

    @property
    def operations(self) -> list[str]:
        return [name for name, _ in self.asked]


GONE = "nothing provides requested numpy"
NO_IDNA = "ERROR: No matching distribution found for idna==3.4"


def test_failed_requirement_is_asked_for_again_relaxed() -> None:
    target = Target(create=[GONE, ""], install=[NO_IDNA, ""], check=["idna 3.9 is not ..."])
    changes = target.rebuild()
    assert [change.partition(" (")[0] for change in changes] == [
        "numpy=1.26.4=py_0 -> numpy=1.26.4",
        "idna==3.4 -> idna==3.*",
    ]
    assert target.operations == [
        "find_tool",
        "create",
        "create",
        "install",
        "install",
        "check",
        "take_built",
    ]
    assert target.asked[2][1].specs == ("numpy=1.26.4",)
    assert target.asked[2][1].channels == WANTED.channels


def test_the_details_repeat_neither_the_message_nor_themselves() -> None:
    output = "ERROR: it went wrong\nbecause of this\nbecause of this\nERROR: it went wrong\n"
    with pytest.raises(RebuildFailed, match="pip there failed: it went wrong") as caught:
        Target(install=[output]).rebuild()
    assert caught.value.details == ("because of this",)


@pytest.mark.parametrize(
    ("said", "error", "message"),
    [
        ({"create": [GONE]}, RebuildFailed, "mamba 1.5.8 there cannot install numpy"),
        ({"install": [NO_IDNA]}, RebuildFailed, "pip there cannot install idna"),
        ({"install": ["No module named pip"]}, RebuildFailed, "No module named pip"),
        ({"create": ["CondaHTTPError: HTTP 000 x"]}, RebuildFailed, "cannot reach the servers"),
        ({"create": ["UnavailableInvalidChannel: HTTP 404"]}, RebuildFailed, "find a channel of"),
        ({"create": ["[Errno 28] No space left on device"]}, NoSpace, "ran out of space"),
        ({"create": ["Killed"]}, RebuildFailed, "failed: Killed"),
    ],
)
def test_failed_rebuild_leaves_nothing_behind(
    said: dict[str, list[str]], error: type[Exception], message: str
) -> None:
    target = Target(**said)
    with pytest.raises(error, match=message):
        target.rebuild()
    assert target.operations[-1] == "discard_built"


def test_each_try_of_a_tool_is_told_before_it_runs() -> None:
    target = Target(create=[GONE, ""], install=[NO_IDNA, ""])
    target.rebuild()
    conda = f"{TOOL.name} {TOOL.version}"
    tries = [(conda, 1), (conda, 2), ("pip", 1), ("pip", 2), ("pip check", 1)]
    assert target.runs == [("looking for conda", 1), *tries]


@pytest.mark.parametrize("from_history", [False, True])
def test_from_history_is_suggested_only_where_it_was_not_used(from_history: bool) -> None:
    wanted = WANTED._replace(requested=("numpy",))
    target = Target(create=[GONE] * 9)
    with pytest.raises(RebuildFailed) as caught:
        Rebuild(target, "/p", wanted, PinPolicy(from_history=from_history), _ignore, _ignore).run()
    assert caught.value.hint.endswith(
        "replace it at the source" if from_history else "or use --from-history"
    )


NO_WHEEL = "ERROR: ... [Errno 2] No such file or directory: '/home/alice/mylab-0.1.whl'"
NO_BUILD = "ERROR: Failed building wheel for mylab"


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (NO_WHEEL, "which is not there"),
        (NO_BUILD, "and cannot be installed there: Failed build"),
    ],
)
@pytest.mark.parametrize(
    ("editable", "requirement", "methods"),
    [(False, "mylab @ {}", "mirror or pack"), (True, "-e {}", "mirror")],
)
def test_a_package_that_was_no_indexs_is_not_looked_for_on_one(
    said: str, told: str, editable: bool, requirement: str, methods: str
) -> None:
    place = "file:///home/alice/mylab-0.1.whl"
    wanted = WANTED._replace(pip=(PipRequirement("mylab", "0.1", place, editable, True),))
    target = Target(install=[said])
    with pytest.raises(RebuildFailed) as caught:
        Rebuild(target, "/p", wanted, PinPolicy(), _ignore, _ignore).run()
    assert caught.value.message.startswith(f"mylab came from {place}, {told}")
    assert "install it from an index" in caught.value.hint
    assert caught.value.hint.endswith(f"use --method {methods}")
    assert [request.requirements for name, request in target.asked if name == "install"] == [
        (requirement.format(place),)
    ]


@pytest.mark.parametrize("other_platform", ["", ARM])
@pytest.mark.parametrize(
    "said", ["CondaHTTPError: HTTP 000 x", "UnavailableInvalidChannel: HTTP 404", "Killed"]
)
def test_files_that_cannot_run_there_are_not_suggested_instead(
    said: str, other_platform: str
) -> None:
    with pytest.raises(RebuildFailed) as failed:
        Target(create=[said]).rebuild(other_platform=other_platform)
    assert ("--method mirror" in failed.value.hint) == (not other_platform)
    assert failed.value.hint


def test_output_of_a_tool_is_shortened_to_a_line() -> None:
    """Also where it is binary, as of a program that is damaged."""
    with pytest.raises(RebuildFailed) as failed:
        Target(create=["\x00\x1b\ufffd" * 10_000]).rebuild()
    assert failed.value.message.startswith("mamba 1.5.8 there failed: \\x00\\x1b\\ufffd")
    assert len(failed.value.message) < 400


def test_all_that_gave_way_is_told_where_it_was_not_enough() -> None:
    with pytest.raises(RebuildFailed) as caught:
        Target(create=[GONE]).rebuild()
    assert [line.partition(" (")[0] for line in caught.value.details[:3]] == [
        "relaxed: numpy=1.26.4=py_0 -> numpy=1.26.4",
        "relaxed: numpy=1.26.4 -> numpy=1.26.*",
        "relaxed: numpy=1.26.* -> numpy=1.*",
    ]


def test_on_another_platform_what_is_not_there_is_left_out() -> None:
    changes = Target(create=[GONE, GONE, GONE, ""]).rebuild(other_platform=ARM)
    assert changes[0].startswith("the build of 1 package")
    assert changes[-1].startswith("numpy=1.* -> left out")


def test_requirement_that_cannot_be_asked_for_is_reported_as_left_out() -> None:
    odd = CondaRequirement("x y", "1.0", "0", "noarch")
    wanted = WANTED._replace(conda=(*WANTED.conda, odd))
    (change,) = Rebuild(Target(), "/p", wanted, PinPolicy(), _ignore, _ignore).run().changes
    assert change.startswith("'x y' '1.0' of conda -> left out (")


def test_rebuild_ends_after_a_number_of_tries() -> None:
    many = tuple(CondaRequirement(f"p{n}", "1.2.3", "0", "linux-64") for n in range(TRIES_MAX))
    target = Target(create=[f"nothing provides requested p{n}" for n in range(TRIES_MAX)] + ["x"])
    wanted = WANTED._replace(conda=many)
    with pytest.raises(RebuildFailed, match=f"after {TRIES_MAX} tries") as caught:
        Rebuild(target, "/p", wanted, PinPolicy(), _ignore, _ignore).run()
    assert len(caught.value.details) == TRIES_MAX


@pytest.mark.parametrize("other_platform", ["", ARM])
def test_rebuild_without_a_tool_is_refused_with_the_reason(other_platform: str) -> None:
    """Where nothing but a rebuild is possible, it is said why, and nothing else is suggested."""
    target = Target()
    target.tool = ToolFacts("", "", "")
    with pytest.raises(PreflightRefused, match="no mamba, micromamba or conda") as refused:
        target.rebuild(other_platform=other_platform)
    assert refused.value.message.startswith(other_platform)
    assert ("--method mirror" in refused.value.hint) == (not other_platform)
