"""What differs, as a person is told of it."""

from __future__ import annotations

from envsync.agent.target.differences import describe
from tests.support.trees import directory, file, manifest_of, with_parents

SITE = b"lib/python3.11/site-packages"
BEFORE = with_parents({SITE + b"/old/a.py": file(b"1"), b"bin/tool": file(b"2")})


def test_a_directory_that_came_with_files_is_no_file_besides() -> None:
    after = with_parents({**BEFORE, SITE + b"/new/sub/b.py": file(b"3")})
    found = describe(manifest_of(BEFORE), manifest_of(after), lambda _: None, 10)
    assert (found.added, found.removed, found.changed) == (1, 0, 0)
    assert found.paths == ("+ lib/python3.11/site-packages/new/sub/b.py",)
    assert found.groups == ("in no package: 1 file",)
    back = describe(manifest_of(after), manifest_of(BEFORE), lambda _: None, 10)
    assert (back.added, back.removed, back.changed) == (0, 1, 0)


def test_an_empty_directory_is_told() -> None:
    after = {**BEFORE, b"empty": directory()}
    found = describe(manifest_of(BEFORE), manifest_of(after), lambda _: None, 10)
    assert found.paths == ("+ empty",)


def test_a_file_that_became_a_directory_has_changed() -> None:
    after = with_parents({**BEFORE, b"bin/tool": directory(), b"bin/tool/x": file(b"4")})
    found = describe(manifest_of(BEFORE), manifest_of(after), lambda _: None, 10)
    assert found.paths == ("~ bin/tool", "+ bin/tool/x")
