"""The machine with systemd that the tests of a module share."""

from __future__ import annotations

from tests.systemd.fixtures import machine

__all__ = ["machine"]
