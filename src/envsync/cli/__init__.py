"""The command. `main` is its entry point; nothing heavy is imported before it is needed."""

from __future__ import annotations

from envsync.cli.run.entry import main

__all__ = ["main"]
