"""What a tree becomes at another place, whatever it became at others before."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from envsync.agent.source import files_with_prefix
from envsync.agent.source.prefix_search import FileToSearch, SearchResult
from envsync.agent.source.relocated_contents import RelocatedContents
from envsync.agent.source.source_environment import SourceEnvironment
from envsync.agent.source.verified_read import read_verified
from envsync.agent.source.version import SourceVersion
from envsync.agent.trees import hashing
from envsync.agent.trees.directory_read import opened_directory
from envsync.conda.needles import Needles
from envsync.conda.relocation import between
from envsync.errors import SourceRefused
from envsync.tree.entry import Entry
from tests.support import disk
from tests.support.pushes import NAME, environment
from tests.support.trees import file

LONGER = f"/srv/{'x' * 200}/envs/{NAME}"
SHORTER = f"/s/envs/{NAME}"
ROOM_BYTES = 255


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """Conda's, with an environment that has a binary which names only the base itself."""
    base = tmp_path / "conda"
    top = base / "envs" / NAME
    top.mkdir(parents=True)
    binary = b"\0" + os.fsencode(base) + b"/pkgs\0"
    disk.build(os.fsencode(top), environment({b"lib/names-base.so": file(binary)}))
    return base


def inspected(base: Path) -> SourceVersion:
    source = SourceEnvironment(str(base), NAME, (), str(base.parent / "cache"), None)
    source.inspect()
    return source.version


def test_contents_that_were_searched_while_they_were_hashed_are_not_searched_again(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched: list[bytes] = []

    def search(_: int, __: Needles, candidates: Sequence[FileToSearch]) -> SearchResult:
        searched.extend(candidate.path for candidate in candidates)
        return SearchResult(set(), set(), set())

    monkeypatch.setattr(files_with_prefix, "search", search)
    monkeypatch.setattr(hashing, "processors", lambda: 2)
    monkeypatch.setattr(hashing, "PARALLEL_FILES_MIN", 1)
    (base / "envs" / NAME / "lib/names-none").write_text("x")
    source = SourceEnvironment(str(base), NAME, (), None, None)
    source.inspect(target_path=LONGER)
    source.version.relocation_facts(LONGER)
    assert searched == [b"lib/names-base.so"]


def test_records_are_updated_though_they_were_found_to_name_no_prefix(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As at the first push of a source, which is searched while it is hashed."""
    monkeypatch.setattr(hashing, "processors", lambda: 2)
    monkeypatch.setattr(hashing, "PARALLEL_FILES_MIN", 1)
    top = base / "envs" / NAME
    script = b"#!%s/bin/python\n" % bytes(top)
    digest = hashlib.sha256(script).digest()
    said = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    pip = "lib/python3.11/site-packages/tool-1.dist-info/RECORD"
    conda = "conda-meta/tool-1-0.json"
    listed = {"_path": "bin/tool", "sha256_in_prefix": digest.hex()}
    for name, content in {
        "bin/tool": script.decode(),
        pip: f"../../../bin/tool,sha256={said},{len(script)}\n",
        conda: json.dumps({"paths_data": {"paths": [listed]}}),
    }.items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(content)
    source = SourceEnvironment(str(base), NAME, (), None, None)
    source.inspect(target_path=LONGER)
    assert source.version.rewritten(LONGER) >= {b"bin/tool", pip.encode(), conda.encode()}


def test_a_file_without_room_at_one_place_is_rewritten_for_a_shorter_one(base: Path) -> None:
    left = inspected(base).relocation_facts(LONGER).left
    assert left == ("lib/names-base.so",)
    assert inspected(base).rewritten(SHORTER) == {b"lib/names-base.so"}
    revision = inspected(base).relocation_facts(SHORTER).revision
    # Another version, and both places once more: each goes by what is known of it.
    added = base / "envs" / NAME / "lib/added"
    added.write_text("x")
    assert inspected(base).relocation_facts(LONGER).left == left
    assert inspected(base).rewritten(SHORTER) == {b"lib/names-base.so"}
    added.unlink()
    assert inspected(base).relocation_facts(SHORTER).revision == revision


def test_bytecode_of_rewritten_modules_is_counted_also_from_the_cache(base: Path) -> None:
    top = base / "envs" / NAME
    cached = top / "lib/__pycache__"
    cached.mkdir()
    (top / "lib/names.py").write_text(f"p = {str(top)!r}")
    (top / "lib/other.py").write_text("p = 1")
    for name in ("names.cpython-311.pyc", "names.cpython-311.opt-1.pyc", "other.cpython-311.pyc"):
        (cached / name).write_bytes(b"code")
    assert [inspected(base).relocation_facts(LONGER).compiled_left_out for _ in "12"] == [2, 2]


def conda_binary(prefix: bytes) -> bytes:
    """As conda installs it."""
    return b"\x7fELF\0" + prefix + b"/lib" + bytes(ROOM_BYTES - len(prefix)) + b"\0end"


def record(base: Path, content: bytes) -> None:
    """Conda's, of `bin/program`."""
    listed = {
        "_path": "bin/program",
        "prefix_placeholder": "/".ljust(ROOM_BYTES, "p"),
        "file_mode": "binary",
        "sha256_in_prefix": hashlib.sha256(content).hexdigest(),
    }
    path = base / "envs" / NAME / "conda-meta/program-1-0.json"
    path.write_text(json.dumps({"paths_data": {"paths": [listed]}}))


@pytest.fixture
def declared(tmp_path: Path) -> Path:
    """Conda's, with an environment that has a program in which conda left room."""
    base = tmp_path / "conda"
    top = base / "envs" / NAME
    top.mkdir(parents=True)
    content = conda_binary(bytes(top))
    disk.build(bytes(top), environment({b"bin/program": file(content)}))
    record(base, content)
    return base


def become(version: SourceVersion, path: bytes, there: str) -> bytes:
    """What is sent for a file; it has to be what the manifest says."""
    relocated = version.at(there)
    assert relocated is not None
    with opened_directory(version.known_as) as top_fd:
        sent = relocated.rewrite(top_fd, path)
    directory, name = os.path.split(path)
    entries = {entry.name: entry for entry in relocated.manifest.entries(directory)}
    assert entries[name].content == hashlib.sha256(sent).digest()
    return sent


def test_copy_of_a_conda_binary_is_rewritten_as_one_while_that_is_recorded(
    declared: Path,
) -> None:
    here = bytes(declared / "envs" / NAME)
    program, copy = declared / "envs" / NAME / "bin/program", declared / "envs" / NAME / "bin/mine"
    shutil.copy(program, copy)
    there = os.fsencode(SHORTER)
    assert become(inspected(declared), b"bin/mine", SHORTER) == conda_binary(there)
    updated = conda_binary(here) + b" updated"
    program.write_bytes(updated)
    record(declared, updated)
    assert become(inspected(declared), b"bin/program", SHORTER) == conda_binary(there) + b" updated"
    in_place = conda_binary(here).replace(here, there.ljust(len(here), b"/"))
    assert become(inspected(declared), b"bin/mine", SHORTER) == in_place


def test_a_refusal_ends_when_condas_record_says_that_there_is_room(declared: Path) -> None:
    here = declared / "envs" / NAME
    longer = str(declared / "longer/envs" / NAME)
    found = here / "conda-meta/program-1-0.json"
    whole = found.read_bytes()
    found.write_bytes(b"{")
    assert len(inspected(declared).relocation_facts(longer).problems) == 1
    found.write_bytes(whole)
    assert inspected(declared).relocation_facts(longer).problems == ()
    assert become(inspected(declared), b"bin/program", longer) == conda_binary(os.fsencode(longer))


def test_remembered_binary_holds_while_its_record_says_the_same(
    declared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inspected(declared).relocation_facts(SHORTER)
    other = declared / "envs" / NAME / "conda-meta/other-1-0.json"
    other.write_text('{"paths_data": {"paths": []}}')
    read: list[bytes] = []

    def counted(top_fd: int, path: bytes, entry: Entry) -> bytes:
        read.append(path)
        return read_verified(top_fd, path, entry)

    monkeypatch.setattr("envsync.agent.source.relocated.read_verified", counted)
    assert inspected(declared).rewritten(SHORTER) >= {b"bin/program"}
    assert b"bin/program" not in read


def test_a_file_that_is_removed_meanwhile_is_told_as_a_change(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def then_removed(top_fd: int, path: bytes, entry: Entry) -> bytes:
        content = read_verified(top_fd, path, entry)
        os.unlink(path, dir_fd=top_fd)
        return content

    monkeypatch.setattr("envsync.agent.source.relocated.read_verified", then_removed)
    with pytest.raises(SourceRefused, match="changed while it was read"):
        inspected(base).relocation_facts(LONGER)


@pytest.mark.parametrize("now", [None, b"{}"])
def test_a_record_that_changes_meanwhile_is_told_as_a_change(
    declared: Path, now: bytes | None
) -> None:
    """While it is sent, the file counts as gone, and the source is looked at anew."""
    top = declared / "envs" / NAME
    name = b"conda-meta/program-1-0.json"
    [entry] = [
        entry
        for entry in inspected(declared).manifest().entries(b"conda-meta")
        if entry.name == name.split(b"/")[1]
    ]
    (top / os.fsdecode(name)).unlink()
    if now is not None:
        (top / os.fsdecode(name)).write_bytes(now)
    relocation = between(bytes(top), bytes(top), os.fsencode(SHORTER))
    contents = RelocatedContents(relocation, [(name, entry)], {})
    with opened_directory(bytes(top)) as top_fd:
        with pytest.raises(SourceRefused, match="changed while it was read"):
            contents.rewritten(top_fd, b"bin/program", conda_binary(bytes(top)))
        with pytest.raises(OSError, match="changed while it was read"):
            contents.rewrite(top_fd, b"bin/program")


def test_link_to_a_version_of_an_environment_is_no_further_name_of_it(base: Path) -> None:
    """Where directories cannot be swapped; another disk, which the user's link leads to, does."""
    disk_7 = base.parent / "disk 7/envs"
    disk_7.parent.mkdir()
    (base / "envs").rename(disk_7)
    (base / "envs").symlink_to(disk_7)
    version = disk_7 / ".envsync" / NAME / "trees/0123"
    version.parent.mkdir(parents=True)
    (disk_7 / NAME).rename(version)
    (disk_7 / NAME).symlink_to(version.relative_to(disk_7))
    found = inspected(base)
    assert found.names == (bytes(base / "envs" / NAME), bytes(disk_7 / NAME))
    moves = found.relocation(SHORTER).moves
    assert [move.old for move in moves] == [*found.names, bytes(base)]
    # What stands beside the other directory is none of conda's.
    datasets = bytes(disk_7.parent / "datasets")
    assert found.relocation(SHORTER).rewrite(datasets) == datasets
