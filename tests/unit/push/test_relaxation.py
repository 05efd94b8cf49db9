"""Pins give way one by one, and only those that were in the way."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envsync.conda.platform_needs import Platform
from envsync.conda.requirements import CondaRequirement, PipRequirement, Requirements
from envsync.push.rebuilding.relaxation import (
    DROPPED,
    Pin,
    PinPolicy,
    Relaxation,
    conda_pins,
    given_up_builds,
    left_out,
    named_with_address,
    package_names,
    pip_pins,
    relax,
    specs,
)
from envsync.push.rebuilding.solver_messages import (
    CONFLICT,
    UNAVAILABLE,
    ToolFailure,
    read_conda,
)
from envsync.push.request.method import AUTO, MIRROR, PACK, REBUILD, choose_method


def asked(*conda: CondaRequirement, pip: tuple[PipRequirement, ...] = ()) -> Requirements:
    return Requirements((), conda, pip, ())


ARM = "the source is for the architecture x86_64, the target is aarch64"
NUMPY = CondaRequirement("numpy", "1.26.4", "py311h_0", "linux-64")
PYTHON = CondaRequirement("python", "3.11.7", "h_0_cpython", "linux-64")
SIX = CondaRequirement("six", "1.16", "pyh_0", "noarch")
JPEG = CondaRequirement("jpeg", "9e", "h_1", "linux-64")
EPOCH = CondaRequirement("x", "1!2.3", "0", "linux-64")


@pytest.mark.parametrize(
    ("package", "steps"),
    [
        (NUMPY, ("numpy=1.26.4=py311h_0", "numpy=1.26.4", "numpy=1.26.*", "numpy=1.*")),
        (PYTHON, ("python=3.11.7=h_0_cpython", "python=3.11.7", "python=3.11.*")),
        (SIX, ("six=1.16=pyh_0", "six=1.16", "six=1.*")),
        (JPEG, ("jpeg=9e=h_1", "jpeg=9e", "jpeg=9.*")),
        (EPOCH, ("x=1!2.3=0", "x=1!2.3", "x=1!2.*")),
    ],
)
def test_conda_package_is_relaxed_in_steps(
    package: CondaRequirement, steps: tuple[str, ...]
) -> None:
    (pin,) = conda_pins(asked(package), PinPolicy())
    assert pin.steps == steps


def test_on_another_platform_builds_are_not_asked_for() -> None:
    pins = conda_pins(asked(NUMPY, SIX), PinPolicy(other_platform=ARM))
    assert specs(pins) == ("numpy=1.26.4", "six=1.16=pyh_0")
    assert pins[0].steps[-1] == DROPPED
    (told,) = given_up_builds(asked(NUMPY, PYTHON, SIX), PinPolicy(other_platform=ARM))
    assert str(told) == "the builds of 2 packages -> their versions (they are for linux-64)"
    (told,) = given_up_builds(asked(NUMPY, SIX), PinPolicy(other_platform=ARM))
    assert str(told) == "the build of 1 package -> its version (it is for linux-64)"


def test_from_history_asks_for_what_a_person_wrote() -> None:
    requirements = Requirements(
        (), (NUMPY,), (), ("lab-variant=1.0=mkl_1", "numpy>=1.20", "python=3.11", "scipy")
    )
    pins = conda_pins(requirements, PinPolicy(from_history=True))
    assert specs(pins) == requirements.requested
    assert pins[0].steps == ("lab-variant=1.0=mkl_1", "lab-variant=1.0", "lab-variant=1.*")
    assert pins[1].steps == ("numpy>=1.20",)


@pytest.mark.parametrize("channel", ["lab::", "https://h:80/lab::"])
def test_a_channel_that_a_person_named_never_gives_way(channel: str) -> None:
    requirements = Requirements((), (), (), (f"{channel}numpy=1.26.4", f"{channel}scipy=1.0=b_0"))
    pins = conda_pins(requirements, PinPolicy(other_platform=ARM, from_history=True))
    assert [pin.name for pin in pins] == ["numpy", "scipy"]
    assert pins[0].steps == (
        f"{channel}numpy=1.26.4",
        f"{channel}numpy=1.26.*",
        f"{channel}numpy=1.*",
        DROPPED,
    )
    assert pins[1].steps[:2] == (f"{channel}scipy=1.0=b_0", f"{channel}scipy=1.0")


@pytest.mark.parametrize(
    ("package", "steps"),
    [
        (PipRequirement("idna", "3.4", "", False, True), ("idna==3.4", "idna==3.*")),
        (
            PipRequirement("tool", "1.0", "file:///srv/tool", True, True),
            ("-e file:///srv/tool",),
        ),
        (
            PipRequirement("lib", "2.0.1", "git+https://x/lib@abc", False, False),
            ("lib @ git+https://x/lib@abc",),
        ),
    ],
)
def test_pip_package_is_relaxed_in_steps(package: PipRequirement, steps: tuple[str, ...]) -> None:
    (pin,) = pip_pins(asked(pip=(package,)), PinPolicy())
    assert pin.steps == steps


@pytest.mark.parametrize("name", ["--index-url", "-r /etc/passwd", "a b", "x\ny", ""])
def test_no_name_becomes_an_option(name: str) -> None:
    pip = (PipRequirement(name, "1.0", "", False, True),)
    conda = CondaRequirement(name, "1.0", "0", "noarch")
    assert pip_pins(asked(pip=pip), PinPolicy()) == ()
    assert conda_pins(asked(conda), PinPolicy()) == ()
    told = [str(one) for one in left_out(asked(conda, pip=pip), PinPolicy())]
    why = "left out (no tool accepts that name, version or build)"
    assert told == [f"{name!r} '1.0' of {tool} -> {why}" for tool in ("conda", "pip")]


def test_requirement_that_is_asked_for_is_not_reported_as_left_out() -> None:
    nowhere = PipRequirement("nowhere", "", "", False, True)
    requirements = asked(NUMPY, PYTHON, SIX, JPEG, EPOCH, pip=(WHEEL, EDITABLE, CLONE, nowhere))
    (told,) = left_out(requirements, PinPolicy())
    assert told.before == "'nowhere' '' of pip"
    pins = pip_pins(requirements, PinPolicy(other_platform=ARM))
    assert package_names(pins) == ("mylab", "tool", "lib")


def test_only_pins_that_the_message_names_are_relaxed() -> None:
    pins = conda_pins(asked(NUMPY, PYTHON, SIX), PinPolicy())
    outcome = relax(pins, ToolFailure(UNAVAILABLE, ("NumPy",), summary="not available"))
    assert specs(outcome.pins) == ("numpy=1.26.4", *specs(pins)[1:])
    assert [str(one) for one in outcome.relaxations] == [
        "numpy=1.26.4=py311h_0 -> numpy=1.26.4 (not available)"
    ]


def test_each_relaxation_has_the_reason_of_its_own_package() -> None:
    output = "nothing provides requested numpy\nnothing provides requested six 1.16\n"
    outcome = relax(conda_pins(asked(NUMPY, SIX), PinPolicy()), read_conda(output))
    assert [one.reason for one in outcome.relaxations] == output.splitlines()
    listed = "PackagesNotFoundError: not there:\n\n  - numpy=1.26.4=py311h_0\n  - six=1.16=pyh_0\n"
    outcome = relax(conda_pins(asked(NUMPY, SIX), PinPolicy()), read_conda(listed))
    assert [str(one) for one in outcome.relaxations] == [
        "numpy=1.26.4=py311h_0 -> numpy=1.26.4",
        "six=1.16=pyh_0 -> six=1.16",
    ]


WHEEL = PipRequirement("mylab", "0.1.0", "file:///home/alice/my lab-0.1.0.whl", False, True)
EDITABLE = PipRequirement("tool", "1.0", "file:///srv/tool", True, False)
CLONE = PipRequirement("lib", "2.0", "git+ssh://git@h/lab/lib.git@abc#subdirectory=a", False, True)


@pytest.mark.parametrize(
    ("package", "address"),
    [
        (WHEEL, "/home/alice/my lab-0.1.0.whl"),
        (EDITABLE, "/srv/tool"),
        (EDITABLE, "file:///srv/tool"),
        (EDITABLE, "/srv/tool/"),
        (CLONE, "ssh://****@h/lab/lib.git"),
    ],
)
def test_package_with_its_own_address_is_never_asked_of_an_index(
    package: PipRequirement, address: str
) -> None:
    """Of that name there may be anybody's there; on another platform it may be left out."""
    pins = pip_pins(asked(pip=(package,)), PinPolicy())
    by_name = ToolFailure(UNAVAILABLE, names=(package.name,))
    by_address = ToolFailure(UNAVAILABLE, addresses=(address,), summary="gone")
    for failure in (by_name, by_address):
        assert not relax(pins, failure).relaxations
        assert named_with_address(pins, failure) == [*pins]
    other = ToolFailure(UNAVAILABLE, ("idna",), ("/srv/too",))
    assert named_with_address(pins, other) == []
    elsewhere = pip_pins(asked(pip=(package,)), PinPolicy(other_platform=ARM))
    (relaxation,) = relax(elsewhere, by_address).relaxations
    assert str(relaxation).endswith("-> left out (gone)")


@pytest.mark.parametrize("from_history", [False, True])
def test_interpreter_is_not_left_out(from_history: bool) -> None:
    """Nothing else of the environment would run, and yet the push would have succeeded."""
    requirements = asked(PYTHON)._replace(requested=("lab::python=3.11.7=h_0_cpython",))
    pins = conda_pins(requirements, PinPolicy(other_platform=ARM, from_history=from_history))
    gone = ToolFailure(UNAVAILABLE, ("python",))
    while (relaxed := relax(pins, gone)).relaxations:
        pins = relaxed.pins
    assert specs(pins) == ("lab::python=3.11.*" if from_history else "python=3.11.*",)


def test_from_history_leaves_no_pip_package_to_what_others_need() -> None:
    pins = pip_pins(asked(pip=(EDITABLE,)), PinPolicy(other_platform=ARM, from_history=True))
    assert [pin.steps for pin in pins] == [("-e file:///srv/tool",)]


def test_conflict_relaxes_the_strictest_pins_and_leaves_none_out() -> None:
    pins = conda_pins(asked(NUMPY, SIX), PinPolicy(other_platform=ARM))
    first = relax(pins, ToolFailure(CONFLICT, ("numpy", "six")))
    assert specs(first.pins) == ("numpy=1.26.*", "six=1.16")
    last = (Pin("a", ("a=1", DROPPED)), Pin("b", ("b=1",)))
    assert relax(last, ToolFailure(CONFLICT, ("a", "b"))).relaxations == ()


@given(
    st.lists(st.sampled_from(["numpy", "python", "six", "jpeg"]), max_size=30),
    st.sampled_from(["", ARM]),
)
def test_every_step_is_told_and_there_is_an_end(failing: list[str], other: str) -> None:
    pins = conda_pins(asked(NUMPY, PYTHON, SIX, JPEG), PinPolicy(other_platform=other))
    most = sum(len(pin.steps) - 1 for pin in pins)
    told = 0
    for name in failing:
        pins, relaxations = relax(pins, ToolFailure(UNAVAILABLE, (name,)))
        told += len(relaxations)
    assert told == sum(pin.step for pin in pins) <= most
    assert len(package_names(pins)) == len(specs(pins))


HERE = Platform("Linux", "x86_64", "glibc", "2.36")


@pytest.mark.parametrize(
    ("wanted", "there", "name", "reason"),
    [
        (AUTO, HERE, MIRROR, "both are Linux x86_64"),
        (AUTO, HERE._replace(libc_version="2.17"), MIRROR, "both are Linux x86_64"),
        (AUTO, HERE._replace(machine="aarch64"), REBUILD, "architecture x86_64"),
        (AUTO, HERE._replace(libc="musl"), REBUILD, "C library glibc"),
        (MIRROR, HERE._replace(machine="aarch64"), MIRROR, "requested"),
        (REBUILD, HERE, REBUILD, "requested"),
        (PACK, HERE, PACK, "requested"),
    ],
)
def test_method_is_chosen_with_its_reason(
    wanted: str, there: Platform, name: str, reason: str
) -> None:
    method = choose_method(wanted, HERE, there)
    assert method.name == name
    assert reason in method.reason


def test_a_reason_that_only_repeats_the_spec_is_left_out() -> None:
    assert str(Relaxation("x", "x=1=0", "x=1", "x=1=0")) == "x=1=0 -> x=1"
    assert str(Relaxation("x", "x=1=0", "", "gone")) == "x=1=0 -> left out (gone)"
