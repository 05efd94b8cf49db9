"""What the unit tests found on this machine, in the header of the run."""

from __future__ import annotations

import os

from hypothesis import settings

from tests.pythons import interpreters

# A busy machine is no failure; pytest's own time limit bounds every test. Where a machine
# decides by the outcome, the examples are the same each time; people search anew.
settings.register_profile(
    "envsync", deadline=None, max_examples=40, derandomize=os.environ.get("CI") == "true"
)
settings.load_profile("envsync")


def pytest_report_header() -> str:
    return "streamed modules run on: Python " + ", ".join(interpreters())
