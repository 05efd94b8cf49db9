"""What a machine may lack: tests that need it are skipped, or fail if ENVSYNC_REQUIRE names it."""

from __future__ import annotations

import os

import pytest


def is_required(name: str) -> bool:
    """Return whether it is a failure that this is missing."""
    return name in os.environ.get("ENVSYNC_REQUIRE", "").replace(",", " ").split()


def demand(name: str, missing: str) -> None:
    """If `missing` says why there is none, skip the test with that, or fail it if required."""
    if missing and is_required(name):
        pytest.fail(f"{name} is required and cannot be had: {missing}", pytrace=False)
    if missing:
        pytest.skip(f"no {name}: {missing}")


def report_line(name: str, missing: str) -> str:
    """Return the line for the header of a test run."""
    required = ", required" if is_required(name) else ""
    return f"{name}: off{required} ({missing})" if missing else f"{name}: on{required}"
