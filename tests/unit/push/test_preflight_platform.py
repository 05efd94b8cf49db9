"""What the platforms of both ends forbid, and what a person may insist on."""

from __future__ import annotations

import pytest

from envsync.conda.platform_needs import Platform
from envsync.errors import PreflightRefused
from envsync.push.preflight import preflight
from tests.support.end_states import HERE, source, target


@pytest.mark.parametrize("other", [HERE._replace(machine="aarch64"), HERE._replace(libc="musl")])
def test_other_platform_is_refused_unless_forced(other: Platform) -> None:
    with pytest.raises(PreflightRefused, match="the target is") as refused:
        preflight.require_target(source(), target(other))
    assert "--force-platform" in refused.value.hint
    insisted, differs = preflight.insisted(source(), target(other))
    preflight.require_target(source(), insisted)
    assert [line.endswith("because of --force-platform") for line in differs] == [True]


def test_an_older_c_library_alone_forbids_nothing() -> None:
    older = target(HERE._replace(libc_version="2.31"))
    preflight.require_target(source(), older)
    assert preflight.has_older_libc(source(), older)
    assert not preflight.has_older_libc(source(), target(HERE))
    assert preflight.warnings(source(), older) == ()


def test_nothing_makes_what_an_archive_has_anew() -> None:
    there = target(HERE._replace(machine="aarch64"))
    with pytest.raises(PreflightRefused, match="aarch64") as refused:
        preflight.require_target(source(), there, is_archive=True)
    assert "--" not in refused.value.hint
