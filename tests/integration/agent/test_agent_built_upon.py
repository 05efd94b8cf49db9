"""Which trees a push builds on, and what becomes of it where one turns out to be of no use."""

from __future__ import annotations

import contextlib
import errno
import os
from typing import Any

import pytest

from envsync.agent.places.records import Records
from envsync.agent.staging import staging
from envsync.errors import EnvsyncError, NotFound
from envsync.tree.revision import revision_of
from tests.unit.agent.pushes import Server, environment, require_sound
from tests.unit.tree.trees import file, manifest_of

VERSIONS = [environment({b"lib/m.py": file(b"m"), b"of": file(b"%d" % n)}) for n in range(5)]


def twice(server: Server) -> bytes:
    """Two versions; the tree of the earlier one, which the next push builds on."""
    server.push(VERSIONS[0])
    server.push(VERSIONS[1])
    (tree,) = server.earlier()
    return tree


# --- what it shares with others -----------------------------------------------------------


def test_a_tree_whose_files_have_names_elsewhere_is_not_built_upon(
    server: Server,
) -> None:
    """As conda makes them, with the package cache; and as `cp -al` copies."""
    tree = twice(server)
    elsewhere = server.prefix / "m.py"
    os.link(tree + b"/lib/m.py", elsewhere)
    changed = environment({b"lib/m.py": file(b"m", 0o755, 10**18), b"of": file(b"2")})
    server.push(changed)
    assert server.revision() == revision_of(manifest_of(changed))
    status = elsewhere.stat()
    assert (status.st_mode & 0o777, status.st_mtime_ns) == (0o644, 0)
    assert status.st_ino != os.stat(server.live + b"/lib/m.py").st_ino
    assert status.st_nlink == 1, "that version has gone all the same"


def test_a_tree_whose_files_have_several_names_in_it_is_built_upon(server: Server) -> None:
    linked = {b"lib/m.py": file(b"m", inode=1), b"lib/n.py": file(b"m", inode=1)}
    for n in range(2):
        server.push(environment({**linked, b"of": file(b"%d" % n)}))
    (tree,) = server.earlier()
    inode = os.stat(tree).st_ino
    server.push(environment({**linked, b"of": file(b"2")}))
    assert os.stat(server.live).st_ino == inode


# --- interrupted while it is taken --------------------------------------------------------


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("what", ["rename", "note_staging", "forget", "chmod"])
def test_a_version_whose_taking_is_interrupted_is_as_it_was_or_none(
    what: str, when: str, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as it can be gone back to, it has its mode, which no revision tells."""
    tree = twice(server)
    os.chmod(tree, 0o2775)
    owner: Any = {"note_staging": staging, "forget": Records}.get(what, os)
    original = getattr(owner, what)

    def fail(*arguments: Any, **options: Any) -> Any:
        if when == "after":
            original(*arguments, **options)
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(owner, what, fail)
        with pytest.raises((OSError, EnvsyncError)):
            server.push(VERSIONS[2])
    with contextlib.suppress(NotFound):
        server.rollback()
        assert os.stat(server.live).st_mode & 0o7777 == 0o2775
        assert server.revision() == revision_of(manifest_of(VERSIONS[0]))
    server.push(VERSIONS[3])
    require_sound(server)
