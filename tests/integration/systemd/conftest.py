"""The machine that these tests share, module by module."""

from __future__ import annotations

from tests.systemd.fixtures import machine

__all__ = ["machine"]
