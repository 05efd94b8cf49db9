"""A push of a changed source looks at what it will build on beside what stands there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from envsync.agent.operations.service import Service
from envsync.agent.trees import changes, running_search
from envsync.agent.wire.build_operations import STAGE
from envsync.agent.wire.target_operations import (
    INSPECT_TARGET,
    OPEN_TARGET,
    InspectTarget,
    OpenTarget,
    Requester,
    SentManifest,
)
from envsync.tree import manifest as manifests
from tests.support.pushes import NAME, Server, environment
from tests.support.trees import Tree, file, manifest_of

ONE: Tree = environment({b"lib/m.py": file(b"one")})
TWO: Tree = environment({b"lib/m.py": file(b"two")})
THREE: Tree = environment({b"lib/m.py": file(b"three")})


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The trees that were searched for changes, in this order."""
    paths: list[bytes] = []

    class Spied(changes.ChangeSearch):
        def __init__(self, top_fd: int, path: bytes, *args: object, **more: object) -> None:
            paths.append(path)
            super().__init__(top_fd, path, *args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(running_search, "ChangeSearch", Spied)
    return paths


@pytest.fixture
def service(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    """A target with two versions, opened."""
    monkeypatch.setenv("XDG_CACHE_HOME", server.cache)
    monkeypatch.setattr(server, "cache", server.cache + "/envsync/content")
    server.push(ONE)
    server.push(TWO)
    opened = Service()
    opening = OpenTarget(str(server.prefix), NAME, ("local",), Requester("alice@here"))
    opened.ask(OPEN_TARGET, opening)
    yield opened
    opened.close()


def inspect(service: Service, *, looks_ahead: bool = False) -> None:
    service.ask(INSPECT_TARGET, InspectTarget(lock=True, looks_ahead=looks_ahead))


def stage(service: Service) -> None:
    service.ask(STAGE, SentManifest(manifests.encode(manifest_of(THREE))))


def test_search_of_the_staging_tree_begins_early_and_once(
    service: Service, server: Server, begun: list[bytes]
) -> None:
    [earlier] = server.earlier()
    inspect(service, looks_ahead=True)
    assert begun == [server.live, earlier]
    stage(service)
    assert begun == [server.live, earlier]


def test_inspection_alone_looks_at_the_live_tree_only(
    service: Service, server: Server, begun: list[bytes]
) -> None:
    [earlier] = server.earlier()
    inspect(service)
    assert begun == [server.live]
    stage(service)
    assert begun == [server.live, earlier]
