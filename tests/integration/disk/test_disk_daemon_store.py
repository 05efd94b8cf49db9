"""The power goes while the daemon writes what it knows, on a real ext4 with a volatile cache."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest

from envsync.agent.server.filesystem import sync_filesystem
from envsync.daemon.rows import HELD, IN_STEP, DaemonState, ServerRow, SourceRow
from envsync.daemon.store import Store
from tests.disk.disk import Disk
from tests.disk.fixtures import MakeDisk

CUTS = int(os.environ.get("ENVSYNC_CUTS", "20"))
SEED = int(os.environ.get("ENVSYNC_SEED", time.time() // 86400))
"""By default, of the day; a failure prints it."""
_FILE = "state/daemon.sqlite"
_WRITES = 12


def _write(store: Store, number: int) -> None:
    """A push that ends, and then a pause: rows of both kinds."""
    if number % 2 == 0:
        state = IN_STEP if number % 4 == 0 else HELD
        store.put_server(ServerRow("myenv", "server2", state, f"{number:064}"))
    else:
        store.put_source(SourceRow("myenv", f"{number:064}", paused=number % 4 == 1))


class Recorded:
    """What was known after each write, and where the disk's log was then."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        store = Store(disk.mount() / _FILE)
        store.put_source(SourceRow("myenv", "first"))
        self.known = [_copy(store.state)]
        _write_back(disk)
        disk.record()
        self._moments = [disk.position()]
        for number in range(_WRITES):
            _write(store, number)
            assert store.trouble == ""
            self.known.append(_copy(store.state))
            self._moments.append(disk.position())
        done = disk.position()
        store.close()
        disk.unmount()
        self._log = disk.stop_recording()[:done]

    def cuts(self) -> list[tuple[int, str, int]]:
        every = [(position, "lost", 0) for position in range(len(self._log) + 1)]
        every += [(position, "kept", 0) for position in range(len(self._log) + 1)]
        every += [(position, "some", seed) for seed in (1, 2) for position in range(len(self._log))]
        chosen = random.Random(SEED).sample(every, min(CUTS, len(every)))
        return [*chosen, (len(self._log), "lost", 0)]

    def written(self, position: int) -> int:
        """How many writes had come back by then."""
        return sum(moment <= position for moment in self._moments) - 1


def _write_back(disk: Disk) -> None:
    fd = os.open(disk.mount_point, os.O_RDONLY)
    try:
        sync_filesystem(fd)
    finally:
        os.close(fd)


def _copy(state: DaemonState) -> DaemonState:
    return DaemonState(dict(state.sources), dict(state.servers), state.inventory)


@pytest.mark.timeout(120)
def test_a_power_cut_leaves_what_was_known_last(make_disk: MakeDisk) -> None:
    """Whole, and as it was after the last write that had come back, or the one under way."""
    recorded = Recorded(make_disk())
    for position, cached, seed in recorded.cuts():
        recorded.disk.cut_power(position, cached, seed)
        file = Path(recorded.disk.mount()) / _FILE
        store = Store(file)
        names = sorted(path.name for path in file.parent.iterdir())
        about = f"cut after {position}: {cached} ({seed}): {names}; ENVSYNC_SEED={SEED}"
        assert store.trouble == "", about
        assert not file.with_suffix(".damaged").exists(), about
        number = recorded.written(position)
        assert store.state in recorded.known[number : number + 2], about
        store.close()
        recorded.disk.unmount()
