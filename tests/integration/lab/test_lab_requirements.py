"""A lab that cannot run is never passed over in silence."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab import requirements
from tests.lab.fixtures import demand_lab
from tests.support.prerequisites import is_required, report_line


@pytest.fixture(autouse=True)
def forget_what_is_missing() -> Iterator[None]:
    requirements.missing.cache_clear()
    yield
    requirements.missing.cache_clear()


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requirements, "_PATH", "/nonexistent")


@pytest.mark.parametrize(
    ("value", "required"),
    [("", False), ("lab", True), ("python,lab", True), ("python lab", True), ("labour", False)],
)
def test_required(monkeypatch: pytest.MonkeyPatch, value: str, required: bool) -> None:
    monkeypatch.setenv("ENVSYNC_REQUIRE", value)
    assert is_required("lab") is required


def test_missing_programs_skip_with_the_line_to_install(
    monkeypatch: pytest.MonkeyPatch, nothing_installed: None
) -> None:
    monkeypatch.delenv("ENVSYNC_REQUIRE", raising=False)
    with pytest.raises(pytest.skip.Exception, match=requirements.INSTALL):
        demand_lab()
    assert report_line("lab", requirements.missing()).startswith("lab: off (sshd, ")


def test_missing_programs_fail_where_the_lab_is_required(
    monkeypatch: pytest.MonkeyPatch, nothing_installed: None
) -> None:
    monkeypatch.setenv("ENVSYNC_REQUIRE", "lab")
    with pytest.raises(pytest.fail.Exception, match="required"):
        demand_lab()
    assert "off, required" in report_line("lab", requirements.missing())
