"""Shows in pytest's header which Pythons these tests found on this machine."""

from __future__ import annotations

from tests.pythons import interpreters


def pytest_report_header() -> str:
    return "streamed modules run on: Python " + ", ".join(interpreters())
