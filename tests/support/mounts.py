"""Mounts that nobody else sees."""

from __future__ import annotations

import ctypes
import os
import subprocess
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.prerequisites import is_required

_NEW_MOUNTS, _NEW_USER = 0x00020000, 0x10000000
_REFUSED, _FAILED = 77, 1


def in_a_namespace(action: Callable[[], None]) -> None:
    """Run it in a child whose mounts nobody else sees; skipped where none can be had."""
    user = os.getuid()
    pid = os.fork()
    if pid == 0:
        status = _FAILED
        try:
            if not _unshared(user):
                status = _REFUSED
            else:
                action()
                status = 0
        except BaseException:  # noqa: BLE001 (also what pytest raises)
            traceback.print_exc()
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status == _REFUSED and not is_required("lab"):
        pytest.skip("no namespaces (root or user namespaces are needed)")
    assert status == 0, "see stderr"


def _unshared(user: int) -> bool:
    flags = _NEW_MOUNTS if user == 0 else _NEW_MOUNTS | _NEW_USER
    if ctypes.CDLL(None).unshare(flags) != 0:
        return False
    if user != 0:
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
    return subprocess.run(["mount", "--make-rprivate", "/"], check=False).returncode == 0


def bind(what: Path, where: bytes) -> None:
    subprocess.run(["mount", "--bind", what, where], check=True)
