"""What the command printed and how it ended, when a test runs it in its own process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Ended:
    status: int
    out: str
    err: str


Envsync = Callable[..., Ended]
"""Runs a command, `envsync("push", "myenv")`, with the environment's variables by name."""
