"""What a target asks for: files of the manifest, each once."""

from __future__ import annotations

import pytest

from envsync.errors import AgentFailed
from envsync.push.ends.requested_files import requested_files
from tests.support.trees import file, manifest_of, symlink, with_parents

MANIFEST = manifest_of(
    with_parents({b"a": file(b"1"), b"d/a": file(b"22"), b"d/b": file(), b"d/l": symlink(b"a")})
)


@pytest.mark.parametrize(
    "paths",
    [[], [b"a"], [b"d/b", b"a", b"d/a"], [b"d/a", b"d/b"]],
    ids=lambda paths: " ".join(map(bytes.decode, paths)),
)
def test_files_come_with_their_sizes_in_the_order_asked_for(paths: list[bytes]) -> None:
    sizes = {b"a": 1, b"d/a": 2, b"d/b": 0}
    assert list(requested_files(MANIFEST, paths)) == [(path, sizes[path]) for path in paths]


@pytest.mark.parametrize(
    ("paths", "why"),
    [
        pytest.param([b"d/a", b"d/c"], "not in the manifest", id="no such file"),
        pytest.param([b"e/a"], "not in the manifest", id="no such directory"),
        pytest.param([b"d/../a"], "not in the manifest", id="a detour"),
        pytest.param([b"/a"], "not in the manifest", id="from the root"),
        pytest.param([b"", b""], "not in the manifest", id="empty paths"),
        pytest.param([b"d"], "not in the manifest", id="a directory"),
        pytest.param([b"d/l"], "not in the manifest", id="a link"),
        pytest.param([b"d/a", b"d/a"], "twice", id="twice"),
        pytest.param([b"d/a", b"a", b"d/a"], "twice", id="twice, with others between"),
    ],
)
def test_anything_else_is_refused(paths: list[bytes], why: str) -> None:
    with pytest.raises(AgentFailed, match=why):
        requested_files(MANIFEST, paths)
