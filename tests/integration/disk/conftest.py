"""The fixtures of the tests of failing storage."""

from __future__ import annotations

from tests.disk.fixtures import make_disk, private_mounts
from tests.unit.agent.conftest import _short_margin

__all__ = ["_short_margin", "make_disk", "private_mounts"]
