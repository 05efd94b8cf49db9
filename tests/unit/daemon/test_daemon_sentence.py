"""The one sentence that `systemctl status` shows of the daemon."""

from __future__ import annotations

import pytest

from envsync.daemon.rows import IN_STEP, DaemonState, ServerRow, SourceRow
from envsync.daemon.status import sentence


@pytest.mark.parametrize(
    ("paused", "told"),
    [
        ((), "2 environments, 2 of 2 copies in step"),
        (("a",), "2 environments (1 paused), 2 of 2 copies in step"),
        (("a", "b"), "2 environments (2 paused), 2 of 2 copies in step"),
    ],
)
def test_sentence_counts_paused_environments(paused: tuple[str, ...], told: str) -> None:
    sources = {name: SourceRow(name, paused=name in paused) for name in ("a", "b")}
    servers = {(name, "s"): ServerRow(name, "s", IN_STEP) for name in ("a", "b")}
    assert sentence(DaemonState(sources, servers), {}, None) == told
