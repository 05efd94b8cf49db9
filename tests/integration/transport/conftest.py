"""A source, a target and the transports between them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from envsync.transport.job import Transport
from envsync.transport.rsync import RsyncTransport
from envsync.transport.scp import ScpTransport
from envsync.transport.stream import StreamTransport
from tests.integration.transport.two_ends import TwoEnds, two_ends

TRANSPORTS: dict[str, type[Transport]] = {
    "stream": StreamTransport,
    "rsync": RsyncTransport,
    "scp": ScpTransport,
}


@pytest.fixture
def ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TwoEnds]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "local-state"))
    monkeypatch.delenv("TMPDIR", raising=False)
    with two_ends(tmp_path) as ends:
        yield ends


@pytest.fixture(params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> Transport:
    """Each transport in turn, because the contract holds for all."""
    return TRANSPORTS[request.param]()
