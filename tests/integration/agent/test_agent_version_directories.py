"""A local path makes no other revision, whatever the version has where it comes to be."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from envsync.agent.places.records import Records
from envsync.agent.server import filesystem
from envsync.agent.source.source_environment import SourceEnvironment
from envsync.agent.target.catalogue import environments
from envsync.agent.trees.trees import Trees
from envsync.errors import CheckFailed
from tests.support.processes import wait_until
from tests.support.pushes import NAME, Server, environment, records
from tests.support.trees import directory, file

MODELS = ("models/checkpoints/**", "share/jupyter/lab/settings/**")
PLAIN = environment({b"lib/a": file(b"a")})
CONFIGURED = environment({b"lib/a": file(b"b"), b"models/config.json": file(b"{}")})


def write(server: Server, path: bytes) -> None:
    """A local file, as a tool makes it."""
    real = Path(os.fsdecode(server.live), os.fsdecode(path))
    real.parent.mkdir(parents=True, exist_ok=True)
    real.write_bytes(b"mine")


def is_changed(server: Server) -> bool:
    """Whether it counts as changed by hand."""
    state = server.target(MODELS).inspect(lock=False)
    return state.record is None or state.revision != state.record.revision


EMPTY = environment({b"lib/a": file(b"a"), b"share/jupyter/lab": directory()})
SETTING = b"share/jupyter/lab/settings/o.json"


def test_a_local_file_in_an_empty_directory_of_the_version_is_no_change(server: Server) -> None:
    server.push(EMPTY, local=MODELS)
    published = server.target(MODELS).inspect(lock=False).revision
    write(server, SETTING)
    assert not is_changed(server)
    os.unlink(os.path.join(server.live, SETTING))
    assert not is_changed(server)
    write(server, SETTING)
    # As a source, too.
    source = SourceEnvironment(str(server.prefix), NAME, MODELS, server.cache, None)
    assert source.inspect().revision == published


def test_a_directory_that_no_version_has_is_local_with_what_it_holds(server: Server) -> None:
    server.push(PLAIN, local=MODELS)
    write(server, SETTING)
    assert not is_changed(server)
    os.unlink(server.live + b"/lib/a")
    assert is_changed(server)


def test_deleted_file_of_a_version_in_a_local_directory_is_drift(server: Server) -> None:
    server.push(CONFIGURED, local=MODELS)
    write(server, b"models/checkpoints/a.pt")
    os.unlink(server.live + b"/models/config.json")
    assert is_changed(server)


def look(server: Server) -> None:
    """As `envsync list` does it, when what was written can be told from what will be."""
    written_ns = os.stat(os.path.join(server.live, SETTING)).st_ctime_ns
    wait_until(
        lambda: time.time_ns() - written_ns > 1.2e9 * filesystem.FINE_MARGIN_SECONDS,
        "its stamps are old",
    )
    list(environments(str(server.prefix), MODELS, {}, server.cache))


def look_at_the_end(server: Server, step: str) -> None:
    """At that step of a switch a tool writes a setting, and somebody looks."""

    def on_step(now: str) -> None:
        if now == step:
            write(server, SETTING)
            look(server)

    server.push(EMPTY, local=MODELS, on_step=on_step)


@pytest.mark.parametrize("step", ["check", "record", "recorded"])
def test_local_paths_between_a_switch_and_its_record_are_no_drift(
    server: Server, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.push(PLAIN, local=MODELS)
    # Not by looking again, either.
    monkeypatch.setattr(Trees, "_mistook_local", lambda *_: False)
    look_at_the_end(server, step)
    assert not is_changed(server)


def test_a_look_that_knew_of_no_version_is_not_gone_on_from(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a look of another user's, before that user may read what is on record."""
    server.push(EMPTY, local=MODELS)
    write(server, SETTING)
    with monkeypatch.context() as blind:
        blind.setattr(Records, "of_version", lambda *_: None)
        look(server)
        assert is_changed(server)
    assert not is_changed(server)


def test_a_check_that_leaves_a_local_file_there_keeps_no_version(server: Server) -> None:
    server.push(PLAIN, local=MODELS)
    path = os.fsdecode(os.path.join(server.live, SETTING))
    with pytest.raises(CheckFailed):
        server.push(EMPTY, local=MODELS, check=f"mkdir -p {path}; false")
    assert not [record for record in records(server).all() if record.kept_because]
