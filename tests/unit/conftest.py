"""What the unit tests found on this machine, in the header of the run."""

from __future__ import annotations

from tests.pythons import interpreters


def pytest_report_header() -> str:
    return "streamed modules run on: Python " + ", ".join(interpreters())
