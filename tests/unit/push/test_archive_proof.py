"""A damaged archive is refused, of whatever format; one that is whole says so, where it can."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import lzma
import os
import tarfile
from pathlib import Path

import pytest
import zstandard

from envsync.errors import SourceRefused
from envsync.push.packing import archive_entries, conda_pack_run
from envsync.push.packing.conda_unpack import UNPACK
from envsync.push.packing.extraction import extract
from envsync.push.packing.pack_archive import FORMATS, write_archive
from envsync.push.packing.recorded_digests import differing
from envsync.push.packing.unpacking import unpack
from envsync.tree.local import LocalPaths

DIST_INFO = "lib/python3.11/site-packages/x-1.dist-info"
HEX = "0" * 64


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    top = tmp_path / "envs/myenv"
    for directory in ("conda-meta", "bin"):
        (top / directory).mkdir(parents=True)
    (top / "conda-meta/history").write_text("")
    (top / "weights").write_bytes(os.urandom(300_000))
    (top / "text").write_text("hello world\n" * 5000)
    return top


def flipped(data: bytes, where: int) -> bytes:
    return data[:where] + bytes([data[where] ^ 1]) + data[where + 1 :]


def unpacked(archive: Path, name: str) -> Path:
    top = archive.parent / name
    top.mkdir()
    unpack(archive, top)
    return top


@pytest.mark.parametrize("form", FORMATS)
def test_a_flipped_bit_is_refused(environment: Path, tmp_path: Path, form: str) -> None:
    archive = tmp_path / "archive"
    write_archive(environment, archive, form, force=False)
    data = archive.read_bytes()
    assert extract(archive, _made(tmp_path / "whole")).is_proven
    for hundredth in (20, 40, 50, 60, 80):
        archive.write_bytes(flipped(data, len(data) * hundredth // 100))
        with pytest.raises(SourceRefused, match="is damaged"):
            unpacked(archive, str(hundredth))


def _made(directory: Path) -> Path:
    directory.mkdir()
    return directory


def test_proof_of_a_tar_is_no_entry_of_it(environment: Path, tmp_path: Path) -> None:
    archive = tmp_path / "archive.tar"
    write_archive(environment, archive, "tar", force=False)
    with tarfile.open(archive) as tar:
        names = [member.name for member in tar if member.isreg()]
    assert names[-1] == UNPACK
    top = unpacked(archive, "whole")
    found = {str(path.relative_to(top)) for path in top.rglob("*") if path.is_file()}
    added = {"conda_unpack_progress.py", "activate", "deactivate", "activate.fish"}
    assert found == set(names) - {UNPACK, *(f"bin/{name}" for name in added)}


def test_a_proof_of_something_else_is_refused(environment: Path, tmp_path: Path) -> None:
    archive = tmp_path / "archive.tar"
    write_archive(environment, archive, "tar", force=False)
    data = archive.read_bytes()
    archive.write_bytes(flipped(data, len(data) - 500))  # what it says that it is
    assert not extract(archive, _made(tmp_path / "unproven")).is_proven
    archive.write_bytes(flipped(data, len(data) - 512 + 60))  # the digest
    with pytest.raises(SourceRefused, match="is damaged: its checksum does not match"):
        unpacked(archive, "refuted")


def test_archive_that_is_unpacked_at_once_has_no_proof(
    environment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conda_pack_run, "Proving", None)
    monkeypatch.setattr(archive_entries, "Proved", None)
    archive = tmp_path / "archive.tar"
    conda_pack_run.run_conda_pack(environment, archive, "tar", LocalPaths(()), proves=False)
    unpack(archive, _made(tmp_path / "top"), is_own=True)
    assert (tmp_path / "top/text").read_text() == (environment / "text").read_text()


def plain(*files: tuple[str, bytes]) -> bytes:
    """As a plain `conda pack` makes it: without any proof."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, content in (*files, (UNPACK, b"_prefix_records = [\n\n]\n")):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def conda_record(*paths: dict[str, object]) -> bytes:
    return json.dumps({"paths_data": {"paths": paths}}).encode()


def said(path: str, content: bytes, **more: object) -> dict[str, object]:
    digest = hashlib.sha256(content).hexdigest()
    return {"_path": path, "sha256_in_prefix": digest, "size_in_bytes": len(content), **more}


def pip_line(path: str, content: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    return f"{path},sha256={digest},{len(content)}\n"


def _without_checksum(data: bytes) -> tuple[bytes, bytes]:
    return (
        zstandard.ZstdCompressor(write_checksum=False).compress(data),
        lzma.compress(data, check=lzma.CHECK_NONE),
    )


def test_without_a_checksum_records_tell(tmp_path: Path) -> None:
    content = bytes(range(256)) * 8
    record = ("conda-meta/x-1-0.json", conda_record(said("lib/x.so", content)))
    data = plain(record, ("lib/x.so", content))
    damaged = flipped(data, data.index(content) + 700)
    archive = tmp_path / "archive"
    for whole in (data, *_without_checksum(data)):
        archive.write_bytes(whole)
        assert (unpacked(archive, f"whole{len(whole)}") / "lib/x.so").read_bytes() == content
    for broken in (damaged, *_without_checksum(damaged)):
        archive.write_bytes(broken)
        with pytest.raises(SourceRefused, match=r"damaged: .* other contents for lib/x\.so"):
            unpacked(archive, f"broken{len(broken)}")
    # Somebody's edit, in an archive that is whole as it says itself.
    archive.write_bytes(zstandard.ZstdCompressor(write_checksum=True).compress(damaged))
    unpacked(archive, "edited")


@pytest.mark.parametrize(
    "listed",
    [
        said("x", b"brought"),
        said("x", b"another length"),
        said("x", b"changed", prefix_placeholder="/opt/p", file_mode="text"),
        said("x", b"changed", sha256=hashlib.sha256(b"brought").hexdigest()),
        {"_path": "x", "size_in_bytes": 7},
        {"_path": "x", "sha256": 7, "size_in_bytes": 7},
        {"_path": "x", "sha256": HEX, "size_in_bytes": "7"},
        said("x.pyc", b"written"),
        {"_path": "link", "sha256": HEX, "size_in_bytes": 7},
        {"_path": "../x", "sha256": HEX, "size_in_bytes": 7},
        {"_path": ["x"], "sha256": HEX},
        {},
    ],
)
def test_difference_that_conda_may_cause_is_accepted(
    tmp_path: Path, listed: dict[str, object]
) -> None:
    top = tmp_path / "top"
    (top / "conda-meta").mkdir(parents=True)
    (top / "x").write_bytes(b"brought")
    (top / "x.pyc").write_bytes(b"renewed")
    (top / "link").symlink_to("x")
    (tmp_path / "x").write_bytes(b"outside")
    record = top / "conda-meta/x-1-0.json"
    record.write_bytes(conda_record(listed))
    assert differing(top) == []
    record.write_bytes(conda_record(listed, said("x", b"brought")))
    assert differing(top) == []
    for nonsense in (b"", b"[]", b'{"paths_data": {"paths": 3}}', b"[" * 100_000):
        record.write_bytes(nonsense)
        assert differing(top) == []


def test_a_binary_with_a_prefix_is_as_it_came_or_as_it_was_made(tmp_path: Path) -> None:
    (tmp_path / "conda-meta").mkdir()
    binary = said("x", b"in here", prefix_placeholder="/opt/p", file_mode="binary")
    binary["sha256"] = hashlib.sha256(b"brought").hexdigest()
    (tmp_path / "conda-meta/x-1-0.json").write_bytes(conda_record(binary))
    found = []
    for content in (b"brought", b"in here", b"damaged"):
        (tmp_path / "x").write_bytes(content)
        found.append(differing(tmp_path))
    assert found == [[], [], ["x"]]


def test_pip_tells_of_what_conda_does_not(tmp_path: Path) -> None:
    files = {"x.py": b"brought", "also.py": b"of both", "../../../bin/x": b"script!"}
    (tmp_path / DIST_INFO).mkdir(parents=True)
    (tmp_path / "bin").mkdir()
    (tmp_path / "conda-meta").mkdir()
    lines = "".join(pip_line(path, b"another") for path in files)
    record = tmp_path / DIST_INFO / "RECORD"
    site_packages = record.parent.parent
    record.write_text(lines + "x.py,,\nodd\nx.py,sha256=?,7\nx.py,md5=0,7\n")
    also = "lib/python3.11/site-packages/also.py"
    (tmp_path / "conda-meta/x-1-0.json").write_bytes(conda_record(said(also, b"of both")))
    for path, content in files.items():
        (site_packages / path).write_bytes(content)
    assert differing(tmp_path) == []  # of one that says odd things, too, nothing is said
    record.write_text(lines)
    assert differing(tmp_path) == ["lib/python3.11/site-packages/x.py"]
    record.write_text("".join(pip_line(path, content) for path, content in files.items()))
    assert differing(tmp_path) == []


def test_file_that_pip_put_over_condas_is_accepted(tmp_path: Path) -> None:
    """A newer version of the same length, of a package that is in conda's cache no more."""
    (tmp_path / DIST_INFO).mkdir(parents=True)
    (tmp_path / "conda-meta").mkdir()
    path = "lib/python3.11/site-packages/x.py"
    (tmp_path / "conda-meta/x-1-0.json").write_bytes(conda_record(said(path, b"x = 1")))
    (tmp_path / DIST_INFO / "RECORD").write_text(pip_line("x.py", b"x = 2"))
    found = []
    for content in (b"x = 1", b"x = 2", b"x = 3"):
        (tmp_path / path).write_bytes(content)
        found.append(differing(tmp_path))
    assert found == [[], [], [path]]


@pytest.mark.parametrize(("data", "what"), [(b"PK\x03\x04", "zip"), (b"hsqs", "squashfs")])
def test_format_of_conda_pack_that_is_no_tar_is_not_called_damaged(
    tmp_path: Path, data: bytes, what: str
) -> None:
    archive = tmp_path / "archive"
    archive.write_bytes(data + bytes(1000))
    with pytest.raises(SourceRefused, match=f"is a {what}, but only a tar can be"):
        unpacked(archive, "top")


def test_an_environment_below_a_directory_is_told(tmp_path: Path) -> None:
    """As `conda pack --arcroot a/b` packs it."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        tar.addfile(tarfile.TarInfo(f"a/b/{UNPACK}"))
    archive = tmp_path / "archive"
    archive.write_bytes(stream.getvalue())
    with pytest.raises(SourceRefused, match="has its environment below a/b/") as refused:
        unpacked(archive, "top")
    assert "--arcroot" in refused.value.hint
