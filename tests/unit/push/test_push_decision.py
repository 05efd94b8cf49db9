"""What the steps of a push hand on to one another, and the order of what is told at the end."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import pytest

from envsync.conda.platform_needs import Platform
from envsync.push.ends.both_ends import BothEnds
from envsync.push.ends.source import Source
from envsync.push.ends.target_end import TargetEnd
from envsync.push.preflight import replacement
from envsync.push.request.method import MIRROR, REBUILD
from envsync.push.request.settings import PushSettings
from envsync.push.steps.decision import Decision, method_for
from envsync.push.steps.progress import ProgressTracker
from envsync.push.steps.report import PUSHED
from envsync.push.steps.reporting import About, Reporting
from tests.support.end_states import HERE, source, target

SETTINGS = PushSettings("myenv", "server1:/w/conda", "alice@server1")
ARM = HERE._replace(machine="aarch64")


@pytest.mark.parametrize(
    ("other", "insists", "method", "platform"),
    [
        (HERE, False, MIRROR, HERE),
        (HERE, True, MIRROR, HERE),
        (ARM, False, REBUILD, ARM),
        (ARM, True, MIRROR, HERE),
    ],
)
def test_forced_platform_is_mirrored_and_reported(
    other: Platform, insists: bool, method: str, platform: Platform
) -> None:
    there = target(other)
    way = method_for(replace(SETTINGS, force_platform=insists), source(), there)
    assert (way.method.name, way.target.platform) == (method, platform)
    assert way.method.is_rebuild == (method == REBUILD)
    assert bool(way.insisted) == (insists and other != HERE)
    assert ("x86_64" in way.method.reason) == (not way.insisted)
    assert there.platform == other


def test_platform_of_a_target_is_not_overruled_for_a_rebuild() -> None:
    way = method_for(replace(SETTINGS, force_platform=True, method=REBUILD), source(), target(ARM))
    assert (way.target.platform, way.insisted) == (ARM, ())


@pytest.mark.parametrize(
    ("other", "method", "is_in_step"),
    [
        (HERE, MIRROR, True),
        (ARM, MIRROR, True),
        (HERE, REBUILD, True),
        (ARM, REBUILD, False),
    ],
)
def test_a_version_that_was_forced_on_another_platform_is_not_in_step_for_a_rebuild(
    other: Platform, method: str, is_in_step: bool
) -> None:
    there = target(other)._replace(exists=True, revision=source().revision_there)
    assert replacement.is_in_step(source(), there, method) == is_in_step
    assert not replacement.is_in_step(source(), there._replace(exists=False), method)


def test_content_that_was_never_published_is_replaced_by_the_same_without_being_asked() -> None:
    """It is not in step, as it is to be shared, or to be unpacked anew."""
    there = target(HERE)._replace(exists=True, revision=source().revision_there)
    assert replacement.has_drifted(there)
    assert replacement.missing_options(SETTINGS, source(), there) == ()
    other = there._replace(revision="other")
    assert replacement.missing_options(SETTINGS, source(), other) == ("--overwrite",)


def test_earlier_version_that_was_put_back_by_hand_is_not_replaced() -> None:
    there = target(HERE)._replace(exists=True, revision="earlier")
    had = source()._replace(had=("earlier",))
    assert replacement.missing_options(SETTINGS, had, there) == ("--overwrite",)


def test_warnings_of_several_tries_are_reported_once_and_in_order() -> None:
    there = cast(TargetEnd, SimpleNamespace(server="server2"))
    ends = BothEnds(SETTINGS, cast(Source, None), there)
    notes = Reporting(ends, ProgressTracker("server2"))
    way = method_for(SETTINGS, source(), target(HERE))
    notes.warn(About.ENDS, ["an older C library", "leads out"])
    for staged in ("found by a try", "found"):
        notes.warn(About.STAGED, (staged,))
    notes.warn(About.SWITCH, ["the answer was lost"])
    notes.warn(About.SHARE, ["shared otherwise"])
    notes.warn(About.INSISTED, ["insisted"])
    report = notes.report(Decision(way.method, source(), way.target, PUSHED))
    assert report.outcome == PUSHED
    assert report.warnings == (
        "insisted",
        "shared otherwise",
        "found",
        "the answer was lost",
        "an older C library",
        "leads out",
    )
