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
    assert found.groups == ("in no known package: 1 file",)
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


def test_the_files_of_a_package_that_is_gone_are_its_own() -> None:
    """Its record is not there any more: whoever asks may have it."""
    record = SITE + b"/old-1.dist-info/RECORD"
    before = with_parents({**BEFORE, record: file(b"old/a.py,,")})
    after = with_parents({b"bin/tool": BEFORE[b"bin/tool"]})
    found = describe(manifest_of(before), manifest_of(after), lambda _: None, 10)
    assert found.groups == ("old 1: 1 file", "in no known package: 1 file")
    assert found.unread == (record.decode(),)
    records = {record.decode(): "old/a.py,,"}
    found = describe(manifest_of(before), manifest_of(after), lambda _: None, 10, records)
    assert (found.groups, found.unread) == (("old 1: 2 files",), ())


def test_files_are_counted_for_the_version_of_a_package_that_has_them() -> None:
    old, new = (SITE + b"/old-%d.dist-info/RECORD" % n for n in (1, 2))
    listed = b"old/a.py,,"
    before = with_parents({**BEFORE, old: file(listed)})
    after = with_parents({**BEFORE, new: file(listed), SITE + b"/old/a.py": file(b"new")})
    read = {new: listed}.get
    there = {old.decode(): listed.decode()}
    found = describe(manifest_of(before), manifest_of(after), read, 10, there)
    assert found.groups == ("old 2: 2 files", "old 1: 1 file")
