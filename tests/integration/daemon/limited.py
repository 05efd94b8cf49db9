"""What the daemon's parts do at the kernel's own limits; run within namespaces that have them.

python -m tests.integration.daemon.limited watches|instances|disk DIRECTORY
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from pathlib import Path

import pytest

from envsync.daemon.rows import ServerRow, SourceRow
from envsync.daemon.store import Store, read
from envsync.daemon.watcher import INVENTORY, Watcher
from envsync.errors import StorageFailed

_LIMIT = "/proc/sys/user/max_inotify_{}"
_ENOUGH = 1000
# Some libraries of Python's start-up may hold a watch of their own.
_TOO_FEW = {"watches": 4, "instances": 0}


def allow(what: str, number: int) -> None:
    """As `sysctl fs.inotify.max_user_...`, for this user namespace alone."""
    Path(_LIMIT.format(what)).write_text(str(number))


def watcher_at_its_limit(what: str, top: Path) -> None:
    """It says so and looks at times; once there is room, it is told again."""
    for path in ("conda-meta", "bin", "lib/python3.11/site-packages"):
        (top / "envs/one" / path).mkdir(parents=True)
    (top / "envsync.yaml").write_text("one")
    woken = threading.Event()
    watcher = Watcher(woken.set)
    allow(what, _TOO_FEW[what])
    watcher.watch({"one": str(top / "envs/one")}, str(top / "envsync.yaml"))
    why = watcher.polled()["one"]
    assert why == (
        f"the limit fs.inotify.max_user_{what} is reached; raise it: "
        f"sudo sysctl fs.inotify.max_user_{what}={524288 if what == 'watches' else 1024}"
    ), why
    watcher.poll()
    watcher.collect()
    (top / "envs/one/bin/tool").write_text("x")
    watcher.poll()
    assert "one" in watcher.collect()
    allow(what, _ENOUGH)
    watcher.poll()
    assert watcher.polled() == {}, watcher.polled()
    watcher.collect()
    woken.clear()
    (top / "envs/one/bin/other").write_text("x")
    assert woken.wait(10)
    assert watcher.collect() - {INVENTORY} == {"one"}
    watcher.close()


def store_on_a_full_disk(top: Path) -> None:
    """On a small tmpfs: what is in memory counts, what was kept is whole, and is made good."""
    file, filler = top / "state/daemon.sqlite", top / "filler"
    store = Store(file)
    store.put_source(SourceRow("myenv", "a" * 64))
    with filler.open("wb") as stream:
        while True:
            try:
                os.write(stream.fileno(), b"x" * 4096)
            except OSError:
                break
    for number in range(300):
        store.put_server(ServerRow("myenv", f"server{number}", refused="b" * 64))
    assert "full" in store.trouble or "I/O" in store.trouble, store.trouble
    assert len(store.state.servers) == 300
    store.write_again()
    assert store.trouble
    assert read(file).sources["myenv"].revision == "a" * 64
    with contextlib.closing(Store(file)) as later:
        assert later.state.sources["myenv"].revision == "a" * 64
    with pytest.raises(StorageFailed, match=r"full|unable to open"):
        Store(top / "other/daemon.sqlite")
    filler.unlink()
    store.write_again()
    assert store.trouble == ""
    assert read(file).servers == store.state.servers
    store.close()


if __name__ == "__main__":
    case, directory = sys.argv[1], Path(sys.argv[2])
    if case == "disk":
        store_on_a_full_disk(directory)
    else:
        watcher_at_its_limit(case, directory)
