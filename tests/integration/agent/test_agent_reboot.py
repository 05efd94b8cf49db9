"""What may be believed without hashing after the machine was started again."""

from __future__ import annotations

import pytest

from envsync.agent.server import machine
from tests.support import disk
from tests.support.pushes import Server, environment
from tests.support.trees import file

ONE = environment({b"bin/tool": file(b"one", 0o755), b"lib/shared": file(b"the same")})
TWO = environment({b"bin/tool": file(b"two", 0o755), b"lib/shared": file(b"the same")})


def reboot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "boot_id", lambda: "of the next boot")


def hashed_bytes(server: Server) -> int:
    target = server.target()
    state = target.inspect(lock=False)
    assert state.revision == server.revision()
    assert target.live is not None
    return target.live.hashed_bytes


def test_published_tree_is_not_hashed_after_a_reboot(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for nodes in (ONE, TWO):
        server.push(nodes)
    reboot(monkeypatch)
    assert hashed_bytes(server) == 0


def test_tree_that_was_rolled_back_to_is_not_hashed_after_a_reboot(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for nodes in (ONE, TWO):
        server.push(nodes)
    server.rollback()
    reboot(monkeypatch)
    assert hashed_bytes(server) == 0


def test_a_change_still_shows(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.push(ONE)
    disk.shift_content(server.live + b"/lib/shared")
    reboot(monkeypatch)
    assert hashed_bytes(server) > 0


def test_a_change_that_was_looked_at_was_not_synced(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.push(ONE)
    disk.shift_content(server.live + b"/lib/shared")
    hashed_bytes(server)
    assert hashed_bytes(server) == 0, "known in this boot"
    reboot(monkeypatch)
    assert hashed_bytes(server) > 0


def test_a_boot_without_a_name(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing tells it from the one before: nothing that was not synced is believed."""
    monkeypatch.setattr(machine, "boot_id", lambda: "")
    server.push(ONE)
    disk.shift_content(server.live + b"/lib/shared")
    hashed_bytes(server)
    assert hashed_bytes(server) > 0
