"""One rule for where a user's files are, and one way to write a file whole."""

from __future__ import annotations

import os
import pwd
import stat
from pathlib import Path

import pytest

from envsync.cli.run.crash import save_traceback
from envsync.daemon.paths import DaemonPaths
from envsync.errors import UsageError
from envsync.files.directories import cache_directory, content_directory, state_directory
from envsync.files.whole import whole_file
from envsync.inventory import remembered

HOME = pwd.getpwuid(os.geteuid()).pw_dir


@pytest.mark.parametrize(
    ("environ", "state", "cache"),
    [
        ({"HOME": "/h"}, "/h/.local/state/envsync", "/h/.cache/envsync"),
        ({}, f"{HOME}/.local/state/envsync", f"{HOME}/.cache/envsync"),
        ({"HOME": "/h", "XDG_STATE_HOME": "/s"}, "/s/envsync", "/h/.cache/envsync"),
        ({"HOME": "/h", "XDG_CACHE_HOME": "/c"}, "/h/.local/state/envsync", "/c/envsync"),
        (
            {"HOME": "/h", "XDG_STATE_HOME": "rel", "XDG_CACHE_HOME": "rel"},
            "/h/.local/state/envsync",
            "/h/.cache/envsync",
        ),
        ({"HOME": "rel", "XDG_STATE_HOME": "/s"}, "/s/envsync", None),
        ({"HOME": ""}, None, None),
    ],
)
def test_whoever_asks_is_told_the_same_place(
    environ: dict[str, str], state: str | None, cache: str | None
) -> None:
    assert (state_directory(environ), cache_directory(environ)) == (state, cache)
    content = content_directory(environ)
    assert content == (None if cache is None else f"{cache}/content")
    kept = remembered._directory(environ)
    assert kept == (None if cache is None else Path(cache, "inventory"))
    if state is None:
        with pytest.raises(UsageError):
            DaemonPaths.of(environ, "server1")
    else:
        assert DaemonPaths.of(environ, "server1").state == Path(state, "on-server1")


def test_a_traceback_goes_where_state_is(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path), "XDG_STATE_HOME": "relative"}
    saved = save_traceback(RuntimeError("x"), environ)
    assert saved is not None
    assert str(saved.parent) == state_directory(environ)


def stopped_half_way(path: bytes, *, sync: bool) -> None:
    with whole_file(path, sync=sync) as file:
        file.write(b"half of the n")
        raise KeyboardInterrupt


@pytest.mark.parametrize("sync", [False, True])
def test_a_file_is_whole_or_as_it_was(tmp_path: Path, *, sync: bool) -> None:
    path = tmp_path / "x"
    with whole_file(str(path), sync=sync) as file:
        file.write(b"old")
        assert not path.exists()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(KeyboardInterrupt):
        stopped_half_way(os.fsencode(path), sync=sync)
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["x"], "nothing is left lying about"
