"""A local path makes no other revision, whatever the version has where it comes to be."""

from __future__ import annotations

import os
from pathlib import Path

from envsync.agent.source.source import Source
from tests.unit.agent.pushes import NAME, Server, environment
from tests.unit.tree.trees import directory, file

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
    source = Source(str(server.prefix), NAME, MODELS, server.cache, None)
    assert source.inspect().revision == published


def test_a_directory_that_no_version_has_is_local_with_what_it_holds(server: Server) -> None:
    server.push(PLAIN, local=MODELS)
    write(server, SETTING)
    assert not is_changed(server)
    os.unlink(server.live + b"/lib/a")
    assert is_changed(server)


def test_what_the_version_had_in_such_a_directory_is_missed(server: Server) -> None:
    server.push(CONFIGURED, local=MODELS)
    write(server, b"models/checkpoints/a.pt")
    os.unlink(server.live + b"/models/config.json")
    assert is_changed(server)
