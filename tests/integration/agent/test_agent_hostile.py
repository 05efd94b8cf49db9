"""An agent whose controller lies, or whose trees do: nothing leaves the environment's place."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from envsync.agent.target.publication import adopt
from envsync.agent.target.push import TargetPush
from envsync.agent.wire.build_operations import Check, Publication
from envsync.errors import AgentFailed
from tests.support.pushes import Server, environment
from tests.support.trees import file, manifest_of, symlink


@pytest.fixture
def outside(server: Server) -> Path:
    """A directory beside the prefix that nothing may touch."""
    path = server.prefix.parent / "outside"
    path.mkdir()
    path.chmod(0o755)
    (path / "precious").write_bytes(b"precious")
    return path


def untouched(outside: Path) -> bool:
    return (
        outside.stat().st_mode & 0o7777 == 0o755
        and os.listdir(outside) == ["precious"]
        and (outside / "precious").read_bytes() == b"precious"
    )


def test_a_link_that_becomes_a_directory_is_not_followed(server: Server, outside: Path) -> None:
    """Building on an earlier version opens directories up: those of the tree, no others."""
    link = symlink(os.fsencode(outside))
    server.push(environment({b"a": link, b"b": file(b"1")}))
    server.push(environment({b"a": link, b"b": file(b"2")}))
    server.push(environment({b"a/new": file(b"3"), b"b": file(b"2")}))
    assert untouched(outside)
    server.push(environment({b"a": link, b"b": file(b"2")}))
    server.push(environment({b"a": link, b"b": file(b"5")}))
    assert untouched(outside)


# --- operations out of order --------------------------------------------------------------

ONE = environment({b"bin/tool": file(b"one", 0o755)})
TWO = environment({b"bin/tool": file(b"two", 0o755)})
PUBLICATION = Publication("r" * 64, "server1", "eve@server1", "mirror", "stream", Check(), False)


def test_nothing_is_published_that_was_not_verified(server: Server) -> None:
    """What was verified can be staged again, which voids the verdict, but not written to."""
    server.push(ONE)
    before = server.revision()
    with server.staged(TWO) as push, pytest.raises(AgentFailed, match="not verified"):
        push.publish(PUBLICATION)
    with server.staged(ONE) as push:
        push.complete()
        push.stage(manifest_of(TWO))
        with pytest.raises(AgentFailed, match="not verified"):
            push.publish(PUBLICATION)
    with server.staged(ONE) as push:
        push.complete()
        with pytest.raises(AgentFailed, match="nothing was staged"):
            push.receiver([])
    assert server.revision() == before


def test_nothing_is_published_twice(server: Server) -> None:
    """A repeated request would switch the version before back, as if it were the new one."""
    server.push(ONE)
    link = ONE | {b"more": symlink(b"bin")}
    with server.staged(link) as push:
        push.complete()
        push.publish(PUBLICATION)
        stands = server.revision()
        with pytest.raises(AgentFailed, match="not verified"):
            push.publish(PUBLICATION)
    assert server.revision() == stands


def test_nothing_is_built_without_the_lock(server: Server) -> None:
    target = server.target()
    target.inspect(lock=False)
    push = TargetPush(target)
    with pytest.raises(AgentFailed, match="not locked"):
        push.stage(manifest_of(ONE))
    with pytest.raises(AgentFailed, match="not locked"):
        adopt(target, PUBLICATION)
    with pytest.raises(AgentFailed, match="nothing was staged"):
        push.complete()
    assert not (server.prefix / "envs" / server.name).exists()
