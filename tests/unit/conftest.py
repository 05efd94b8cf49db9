"""What the unit tests found on this machine, in the header of the run."""

from __future__ import annotations

from hypothesis import settings

from tests.pythons import interpreters

# A busy machine is no failure; pytest's own time limit bounds every test.
settings.register_profile("envsync", deadline=None)
settings.load_profile("envsync")


def pytest_report_header() -> str:
    return "streamed modules run on: Python " + ", ".join(interpreters())
