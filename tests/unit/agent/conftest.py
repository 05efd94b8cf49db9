"""Fixtures of the agent's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from envsync.agent.trees.trees import Trees
from envsync.tree.local import LocalPaths
from tests.support.agent_fixtures import server, short_margin, top

__all__ = ["cache", "looks", "server", "short_margin", "top"]


@pytest.fixture
def cache(tmp_path: Path) -> str:
    return str(tmp_path / "cache" / "content")


@pytest.fixture
def looks(cache: str) -> Trees:
    return Trees(cache, LocalPaths())
