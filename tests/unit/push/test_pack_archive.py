"""Which kind of archive a name asks for, and where none can be made."""

from __future__ import annotations

import json
import os
import tarfile
import tempfile
from pathlib import Path

import pytest
from conda_pack.core import Packer

from envsync.errors import PreflightRefused, SourceRefused
from envsync.push.ends.local_source import open_local
from envsync.push.ends.source import Source
from envsync.push.packing import conda_pack_run, packed_source
from envsync.push.packing.conda_unpack import UNPACK
from envsync.push.packing.pack_archive import format_of, write_archive
from envsync.push.packing.packed_source import PackedHere
from envsync.push.request.places import Place


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("myenv.tar.zst", ("tar.zst", ".tar.zst")),
        ("my.env.tar", ("tar", ".tar")),
        ("myenv.tgz", ("tar.gz", ".tgz")),
        ("myenv.tbz2", ("tar.bz2", ".tbz2")),
        ("myenv.txz", ("tar.xz", ".txz")),
        ("myenv", ("tar.zst", "")),
        ("myenv.zip", None),
        ("myenv.gz", None),
    ],
)
def test_the_name_says_which(name: str, said: tuple[str, str] | None) -> None:
    assert format_of(name) == said


@pytest.mark.parametrize("name", ["x" * 300 + ".tar", "x" * 300 + "/myenv.tar"])
def test_a_name_that_no_file_can_have_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(PreflightRefused, match="cannot be read: File name too long") as e:
        write_archive(tmp_path / "env", tmp_path / name, "tar", force=False)
    assert "-o FILE" in e.value.hint


def test_a_link_to_nothing_is_replaced_only_by_force(tmp_path: Path) -> None:
    (tmp_path / "myenv.tar").symlink_to("nothing")
    with pytest.raises(PreflightRefused, match="already exists"):
        write_archive(tmp_path / "env", tmp_path / "myenv.tar", "tar", force=False)


def test_a_place_that_may_not_be_looked_at_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As another user's home; root may look everywhere."""

    def closed(_: Path, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "stat", closed)
    with pytest.raises(PreflightRefused, match="cannot be read: Permission denied") as e:
        write_archive(tmp_path / "env", tmp_path / "myenv.tar", "tar", force=False)
    assert "-o FILE" in e.value.hint


def test_a_file_that_may_not_be_replaced_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As another user's in /tmp."""

    def pack(_: Path, output: Path, *__: object) -> tuple[str, ...]:
        output.touch()
        return ()

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(conda_pack_run, "run_conda_pack", pack)
    monkeypatch.setattr(Path, "replace", refuse)
    there = tmp_path / "myenv.tar"
    there.write_text("theirs")
    with pytest.raises(PreflightRefused, match="cannot be replaced: Operation not permitted"):
        write_archive(tmp_path / "env", there, "tar", force=True)
    assert [path.name for path in tmp_path.iterdir()] == ["myenv.tar"]


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """One with a file of a package that stands in the cache, where it has other content."""
    top, cached = tmp_path / "env", tmp_path / "pkgs/tool-1.0-0"
    record = {"name": "tool", "version": "1.0", "url": "", "files": ["share/tool"]}
    paths = {"paths": [{"_path": "share/tool", "path_type": "hardlink"}]}
    for path, content in (
        (top / "share/tool", "the environment's"),
        (top / "conda-meta/history", ""),
        (
            top / "conda-meta/tool-1.0-0.json",
            json.dumps({**record, "link": {"source": str(cached)}}),
        ),
        (cached / "share/tool", "the cache's"),
        (cached / "info/paths.json", json.dumps(paths)),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return top


@pytest.mark.parametrize(("may_read", "whose"), [(True, "cache"), (False, "environment")])
def test_file_unreadable_in_the_cache_is_read_in_the_environment(
    may_read: bool, whose: str, environment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cache is another user's, and the file is closed to others, as it was in its package."""
    monkeypatch.setattr(os, "access", lambda *_: may_read)
    write_archive(environment, tmp_path / "env.tar", "tar", force=False)
    with tarfile.open(tmp_path / "env.tar") as archive:
        packed = archive.extractfile("share/tool")
        assert packed is not None
        assert packed.read().decode() == f"the {whose}'s"


def test_nothing_is_written_where_temporary_files_are(
    environment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be full, or another disk than the archive's."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nothing"))
    write_archive(environment, tmp_path / "env.tar", "tar", force=False)
    with tarfile.open(tmp_path / "env.tar") as archive:
        assert archive.getmember("bin/conda-unpack").mode == 0o755


def test_what_is_local_is_not_packed(environment: Path, tmp_path: Path) -> None:
    for name in ("data/mine", "data/below/mine", "mine"):
        (environment / name).parent.mkdir(parents=True, exist_ok=True)
        (environment / name).write_text("of this machine")
    archive = tmp_path / "env.tar"
    write_archive(environment, archive, "tar", force=False, local=["data/**"])
    with tarfile.open(archive) as packed:
        names = packed.getnames()
    assert [name for name in names if "mine" in name] == ["mine"]
    assert "share/tool" in names


def test_file_with_nuls_is_packed_as_it_is_and_not_recorded_as_text(
    environment: Path, tmp_path: Path
) -> None:
    """Whose other bytes are ASCII, so that conda-pack takes it for text."""
    contents = {
        "bin/tool": f"#!{environment}/bin/python\n\0 payload at a known place".encode(),
        "share/data.db": f"home={environment}/share\0next\0".encode(),
        "share/text": f"home={environment}/share\n".encode(),
    }
    for name, content in contents.items():
        (environment / name).parent.mkdir(exist_ok=True)
        (environment / name).write_bytes(content)
    write_archive(environment, tmp_path / "env.tar", "tar", force=False)
    with tarfile.open(tmp_path / "env.tar") as archive:
        packed = {name: archive.extractfile(name).read() for name in [*contents, UNPACK]}  # type: ignore[union-attr]
    unpack = packed.pop(UNPACK).decode()
    assert packed == contents
    assert [name for name in contents if f"'{name}'" in unpack] == ["share/text"]


def test_unreadable_file_is_named(
    environment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", "/env/share/tool")

    monkeypatch.setattr(Packer, "add", refuse)
    with pytest.raises(SourceRefused, match="/env/share/tool: Permission denied"):
        write_archive(environment, tmp_path / "env.tar", "tar", force=False)


@pytest.mark.parametrize("content", ['{"name": "odd", "files": []}', '{"na', "[]"])
def test_environment_with_a_record_that_conda_pack_cannot_read_is_refused(
    content: str, environment: Path, tmp_path: Path
) -> None:
    (environment / "conda-meta/odd-1.0-0.json").write_text(content)
    with pytest.raises(SourceRefused, match="conda-pack cannot pack it: its records") as refused:
        write_archive(environment, tmp_path / "env.tar", "tar", force=False)
    assert refused.value.details == ("conda-meta/odd-1.0-0.json",)
    assert "`envsync push env SERVER --method mirror`" in refused.value.hint
    assert not (tmp_path / "env.tar").exists()


def test_editable_installs_are_named_with_the_command_that_removes_them(
    environment: Path, tmp_path: Path
) -> None:
    python = {"name": "python", "version": "3.11.7"}
    (environment / "conda-meta/python-3.11.7-0.json").write_text(json.dumps(python))
    for name in ("lib_a", "lib_b"):
        place = environment / f"lib/python3.11/site-packages/{name}-1.dist-info"
        place.mkdir(parents=True)
        project = {"url": "file:///srv/a", "dir_info": {"editable": True}}
        (place / "direct_url.json").write_text(json.dumps(project))
    with pytest.raises(SourceRefused, match="editable packages") as refused:
        write_archive(environment, tmp_path / "env.tar", "tar", force=False)
    assert refused.value.details == ("lib_a", "lib_b")
    assert refused.value.hint.startswith(
        f"install without --editable, or `{environment}/bin/python -m pip uninstall lib_a lib_b`, "
        "or use `envsync push env "
    )


def test_source_that_changes_while_it_is_packed_to_be_pushed_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there, top = tmp_path / "prefix/envs/myenv", tmp_path / "unpacked"
    (there / "conda-meta").mkdir(parents=True)
    (there / "conda-meta/history").touch()
    top.mkdir()

    def pack(_: Path, output: Path, *__: object, **___: object) -> tuple[str, ...]:
        (there / "new").touch()
        output.touch()
        return ()

    def opened() -> Source:
        return open_local(Place("here", str(tmp_path / "prefix")), "myenv", ())

    def refuse_to_unpack(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr(conda_pack_run, "run_conda_pack", pack)
    monkeypatch.setattr(packed_source, "unpack", refuse_to_unpack)
    with pytest.raises(SourceRefused, match="the source changed while it was packed"):
        PackedHere(there, opened).fill(top)
    assert not list(top.iterdir())


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664])
def test_archive_has_the_mode_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    def pack(_: Path, output: Path, *__: object) -> tuple[str, ...]:
        output.touch()
        return ()

    monkeypatch.setattr(conda_pack_run, "run_conda_pack", pack)
    there = tmp_path / "myenv.tar"
    there.touch(0o644)
    write_archive(tmp_path / "env", there, "tar", force=True, mode=mode)
    assert there.stat().st_mode & 0o777 == mode
