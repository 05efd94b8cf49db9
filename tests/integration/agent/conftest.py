"""The fixtures of the agent's unit tests: here whole pushes run in one process."""

from __future__ import annotations

import pytest

from envsync.agent import filesystem
from tests.unit.agent.conftest import _short_margin, server, top

__all__ = ["_short_margin", "refuse_exchange", "server", "top"]


def refuse_exchange(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on as on NFS or an old ZFS: `renameat2` takes no flags."""

    def refuse(source: bytes, target: bytes, flags: int) -> None:
        raise filesystem.ExchangeRefused(22, "Invalid argument")

    monkeypatch.setattr(filesystem, "_rename", refuse)
