"""The fixtures of the agent's unit tests: here whole pushes run in one process."""

from __future__ import annotations

from tests.unit.agent.conftest import _short_margin, server, top

__all__ = ["_short_margin", "server", "top"]
