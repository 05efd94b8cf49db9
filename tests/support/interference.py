"""What comes between a push and its filesystem: a refusal, a death, a job that goes on writing."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import pytest

from envsync.agent.server import filesystem
from envsync.agent.trees import stable_hashing, trees


def refuse_exchange(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `renameat2` refuse flags, as on NFS or an old ZFS."""

    def refuse(source: bytes, target: bytes, flags: int) -> None:
        raise filesystem.ExchangeRefused(22, "Invalid argument")

    monkeypatch.setattr(filesystem, "_rename", refuse)


def die_at_change(number: int, die: Callable[[], None]) -> None:
    """Make this process die right before the nth call, from 0, that removes, moves or links."""
    calls = itertools.count()

    def counted(change: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            if next(calls) == number:
                die()
            return change(*arguments, **named)

        return call

    for name in ("unlink", "rmdir", "rename", "replace", "symlink"):
        setattr(os, name, counted(getattr(os, name)))
    filesystem._rename = counted(filesystem._rename)


@contextlib.contextmanager
def written_to(path: bytes) -> Iterator[None]:
    """Write into an open file again and again within the block.

    A write precedes every scan. A thread that wrote all the time could, on a busy machine, do
    nothing during a whole scan.
    """
    with open(path, "ab", buffering=0) as log, contextlib.ExitStack() as stack:

        def after_a_write(look: Callable[..., Any]) -> Callable[..., Any]:
            def written_and_looked(*arguments: Any, **named: Any) -> Any:
                log.write(b"x")
                return look(*arguments, **named)

            return written_and_looked

        for module, name in (
            (trees, "scan"),
            (trees, "scan_touched"),
            (trees, "are_directories_unchanged"),
            (trees, "scan_since"),
            (stable_hashing, "scan_since"),
            (stable_hashing, "scan_only"),
        ):
            look = after_a_write(getattr(module, name))
            stack.enter_context(mock.patch.object(module, name, look))
        log.write(b"x")
        yield
