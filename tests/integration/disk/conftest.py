"""The fixtures of the tests of failing storage."""

from __future__ import annotations

from tests.disk.fixtures import make_disk, private_mounts
from tests.support.agent_fixtures import short_margin

__all__ = ["make_disk", "private_mounts", "short_margin"]
