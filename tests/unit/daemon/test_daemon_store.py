"""What is kept, through every kind of end."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from envsync.daemon import store as module
from envsync.daemon.rows import (
    HELD,
    LAGGING,
    PUSHING,
    DaemonState,
    ErrorFacts,
    ServerRow,
    SourceRow,
)
from envsync.daemon.store import Store, read
from envsync.errors import ConnectionLost, StorageFailed

LOST = ErrorFacts.of(ConnectionLost("it is gone", details=["a", "b"], server="server2"))
SOURCE = SourceRow("myenv", "ab" * 32, 12.5, True, ("an installer left ~umpy",), LOST)
HELD_ROW = ServerRow("myenv", "server2", HELD, "", "ab" * 32, 3.0, 9.0, 2, LOST)
HELD_KEY = (HELD_ROW.environment, HELD_ROW.server)

Opened = Callable[[Path], Store]


@pytest.fixture
def opened() -> Iterator[Opened]:
    """Opens stores, and closes them when the test is over."""
    with contextlib.ExitStack() as stack:
        yield lambda file: stack.enter_context(contextlib.closing(Store(file)))


def test_everything_comes_back(tmp_path: Path, opened: Opened) -> None:
    file = tmp_path / "deep" / "daemon.sqlite"
    store = opened(file)
    store.put_source(SOURCE)
    store.put_server(HELD_ROW)
    store.put_server(ServerRow("myenv", "server3", PUSHING, attempts=1))
    store.put_inventory("/x.yaml")
    store.put_server(ServerRow("gone", "server3"))
    store.drop_server("gone", "server3")
    assert (store.trouble, file.parent.stat().st_mode & 0o777) == ("", 0o700)
    # Not closed: it was killed. A push that was under way is to be done again.
    for state in (read(file), opened(file).state):
        assert state.sources == {"myenv": SOURCE}
        assert state.servers["myenv", "server2"] == HELD_ROW
        assert state.servers["myenv", "server3"].state == LAGGING
        assert state.inventory == "/x.yaml"
        assert len(state.servers) == 2


def test_missing_or_damaged_store_is_empty(tmp_path: Path) -> None:
    assert read(tmp_path / "none") == DaemonState()
    (tmp_path / "bad").write_bytes(b"no database" * 500)
    assert read(tmp_path / "bad") == DaemonState()


def test_a_store_that_cannot_be_looked_for_is_empty(tmp_path: Path) -> None:
    """As in a home that is closed for a while; here of a name that no file can have."""
    assert read(tmp_path / ("x" * 300)) == DaemonState()


def test_a_damaged_database_is_set_aside(tmp_path: Path, opened: Opened) -> None:
    file = tmp_path / "daemon.sqlite"
    file.write_bytes(b"SQLite format 3\0" + b"nonsense" * 1000)
    store = opened(file)
    assert store.state == DaemonState()
    store.put_source(SOURCE)
    assert store.trouble == ""
    assert read(file).sources == {"myenv": SOURCE}
    assert (tmp_path / "daemon.damaged").exists()
    [line] = store.lost
    assert line == f"{file} was damaged and is now daemon.damaged; pauses are lost"


@pytest.mark.parametrize("what", ["directory", "file", "content"])
def test_a_database_that_is_lost_while_the_daemon_runs(
    tmp_path: Path, opened: Opened, what: str
) -> None:
    """What is in memory counts, so that nothing is lost."""
    file = tmp_path / "state" / "daemon.sqlite"
    store = opened(file)
    store.put_source(SOURCE)
    if what == "directory":
        shutil.rmtree(file.parent)
    elif what == "file":
        file.unlink()
    else:
        file.write_bytes(b"nonsense" * 1000)
    store.put_server(HELD_ROW)
    assert store.trouble
    store.write_again()
    assert store.trouble == ""
    assert read(file) == store.state == DaemonState({"myenv": SOURCE}, {HELD_KEY: HELD_ROW})
    aside = [f"{file} was damaged and is now daemon.damaged"]
    assert store.lost == (aside if what == "content" else [])


def test_a_transaction_is_written_at_its_end(tmp_path: Path, opened: Opened) -> None:
    file = tmp_path / "daemon.sqlite"
    store = opened(file)
    with store.transaction():
        store.put_source(SOURCE)
        with store.transaction():
            store.put_server(HELD_ROW)
        assert read(file) == DaemonState()
    assert read(file) == DaemonState({"myenv": SOURCE}, {HELD_KEY: HELD_ROW})


def test_a_transaction_that_fails_is_written_again(tmp_path: Path, opened: Opened) -> None:
    file = tmp_path / "daemon.sqlite"
    store = opened(file)
    file.unlink()
    with store.transaction():
        store.put_source(SOURCE)
    assert store.trouble
    with store.transaction():
        store.put_server(HELD_ROW)
    store.write_again()
    assert store.trouble == ""
    assert read(file) == DaemonState({"myenv": SOURCE}, {HELD_KEY: HELD_ROW})


def test_a_place_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageFailed, match="cannot be read: unable to open"):
        Store(tmp_path / "file" / "daemon.sqlite")


def test_store_that_is_locked_at_first_loses_nothing(
    tmp_path: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody holds the database when the daemon starts: a backup, or a person with sqlite3."""
    monkeypatch.setattr(module, "_BUSY_SECONDS", 0.05)
    file = tmp_path / "daemon.sqlite"
    before = opened(file)
    before.put_source(SOURCE)
    before.put_server(HELD_ROW)
    before.close()
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StorageFailed, match="cannot be read: database is locked") as refused:
            Store(file)
    assert f"fuser -v {file}" in refused.value.hint
    assert opened(file).state == DaemonState({"myenv": SOURCE}, {HELD_KEY: HELD_ROW})


@pytest.mark.parametrize("document", ["CAST(x'7bff7d' AS TEXT)", "'{'", "'[]'", "'{}'", "7"])
def test_a_row_that_is_damaged_costs_no_other(
    tmp_path: Path, opened: Opened, document: str
) -> None:
    file = tmp_path / "daemon.sqlite"
    store = opened(file)
    store.put_source(SOURCE)
    store.put_source(replace(SOURCE, environment="other"))
    store.put_server(HELD_ROW)
    store.put_server(replace(HELD_ROW, server="server3"))
    store.put_inventory("/x.yaml")
    store.close()
    damaged = sqlite3.connect(file, isolation_level=None)
    damaged.execute(
        f"UPDATE state SET document = {document} WHERE environment = 'other' OR server = 'server3'"
    )
    damaged.close()
    store = opened(file)
    assert store.trouble == ""
    assert store.lost == [
        f"{file}: the state of {what} is lost" for what in ("other", "myenv on server3")
    ]
    for state in (store.state, read(file)):
        assert state.sources == {"myenv": SOURCE}
        assert state.servers == {("myenv", "server2"): HELD_ROW}
        assert state.inventory == "/x.yaml"
    assert not (tmp_path / "daemon.damaged").exists()


def test_fields_of_a_newer_envsync_are_passed_over(tmp_path: Path, opened: Opened) -> None:
    file = tmp_path / "daemon.sqlite"
    store = opened(file)
    store.put_source(SOURCE)
    store.put_server(HELD_ROW)
    store.close()
    younger = sqlite3.connect(file, isolation_level=None)
    younger.execute(
        "UPDATE state SET document = json_set(document, '$.new', 1) WHERE kind != 'inventory'"
    )
    younger.close()
    store = opened(file)
    assert store.state.sources == {"myenv": SOURCE}
    assert store.state.servers == {("myenv", "server2"): HELD_ROW}
    assert store.lost == []


def test_a_kill_in_the_middle_of_a_write_leaves_the_one_before(tmp_path: Path) -> None:
    file = tmp_path / "daemon.sqlite"
    code = (
        "import os, sys; from pathlib import Path; from envsync.daemon.store import *\n"
        "store = Store(Path(sys.argv[1])); store.put_source(SourceRow('myenv', 'one'))\n"
        "store._connection.execute('PRAGMA cache_size = 1'); store._write('BEGIN')\n"
        "store.put_source(SourceRow('myenv', 'two'))\n"
        "for n in range(500): store.put_server(ServerRow('e', 's%d' % n, refused='x' * 300))\n"
        "os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(file)], check=False)
    assert done.returncode == -9
    assert file.with_name("daemon.sqlite-journal").exists()
    assert read(file).sources["myenv"].revision == "one"
    assert read(file).servers == {}


def test_a_reader_does_not_disturb(tmp_path: Path, opened: Opened) -> None:
    file = tmp_path / "daemon.sqlite"
    store = opened(file)
    store.put_source(SOURCE)
    before = sorted(tmp_path.iterdir())
    assert read(file).sources == {"myenv": SOURCE}
    assert sorted(tmp_path.iterdir()) == before
    assert read(tmp_path / "none") == DaemonState()
    assert sorted(tmp_path.iterdir()) == before, "nothing is made where there is no daemon"
