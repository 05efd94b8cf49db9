"""What holds for every test: its marker, and how hypothesis behaves."""

from __future__ import annotations

from pathlib import Path

import hypothesis
import pytest

HERE = Path(__file__).parent

# A property that is slow once, on a busy machine, has not failed: pytest-timeout bounds it.
hypothesis.settings.register_profile("envsync", deadline=None)
hypothesis.settings.load_profile("envsync")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test with the directory of tests/ that it is in."""
    for item in items:
        kind = item.path.relative_to(HERE).parts[0]
        if kind in {"unit", "integration"}:
            item.add_marker(kind)
