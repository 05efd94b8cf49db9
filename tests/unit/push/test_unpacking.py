"""Archives that were made to do harm, or that are broken: refused, and nothing leads out."""

from __future__ import annotations

import base64
import bz2
import contextlib
import errno
import fcntl
import gzip
import hashlib
import io
import itertools
import json
import lzma
import os
import tarfile
import tempfile
import threading
import time
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import zstandard

from envsync.errors import NotFound, SourceRefused, StorageFailed, UsageError
from envsync.push.packing import archive_entries, conda_unpack, decompression, unpack_place
from envsync.push.packing.conda_unpack import UNPACK
from envsync.push.packing.pack_archive import write_archive
from envsync.push.packing.record_correction import RewrittenFiles
from envsync.push.packing.unpack_place import UnpackPlace
from envsync.push.packing.unpacking import unpack
from tests.support.ordinary_user import NOBODY
from tests.support.processes import wait_until_blocked

Entry = tuple[tarfile.TarInfo, bytes]
OLD = "/opt/old/envs/myenv"


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o644) -> Entry:
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.mode, member.mtime = kind, link, mode, 1_700_000_000
    return member, b"content\n" if kind == tarfile.REGTYPE else b""


def file(name: str, content: bytes, mode: int = 0o644) -> Entry:
    member, _ = entry(name, mode=mode)
    return member, content


def script(*records: object) -> Entry:
    text = "#!/usr/bin/env python\n_prefix_records = [\n"
    text += ",\n".join(map(repr, records)) + "\n]\n\nif __name__ == '__main__':\n    pass\n"
    return file(UNPACK, text.encode(), 0o755)


def tar(*entries: Entry) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for member, content in entries:
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def unpacked(place: Path, data: bytes) -> Path:
    archive, top = place / "archive", place / "there/envs/myenv"
    archive.write_bytes(data)
    top.mkdir(parents=True)
    try:
        unpack(archive, top)
    except SourceRefused as refused:
        if not refused.hint:
            pytest.fail(f"refused without a hint: {refused}")
        raise
    return top


@pytest.mark.parametrize(
    "compress",
    [
        bytes,
        gzip.compress,
        bz2.compress,
        zstandard.ZstdCompressor().compress,
        lzma.compress,
        lambda data: lzma.compress(data[:700]) + bytes(8) + lzma.compress(data[700:]),
    ],
    ids=["tar", "gz", "bz2", "zst", "xz", "two xz"],
)
def test_unpacked_tree_is_what_conda_unpack_would_make(tmp_path: Path, compress: object) -> None:
    binary = b"\x7fELF" + OLD.encode() + b"/lib\0rest\0"
    data = tar(
        file("etc/settings", f"home={OLD}/share".encode()),
        file("bin/tool", b"#!/usr/bin/env python\nprint()\n", 0o4777),
        file("bin/python3.11", b"\x7fELF no script"),
        file("lib/native.so", binary),
        entry("lib/also.so", tarfile.LNKTYPE, "lib/native.so"),
        entry("share/inside", tarfile.SYMTYPE, "../etc/settings"),
        entry("share/absolute", tarfile.SYMTYPE, OLD + "/etc"),
        script(("etc/settings", OLD, "text")),
    )
    top = unpacked(tmp_path, compress(data))  # type: ignore[operator]
    assert (top / "etc/settings").read_text() == f"home={top}/share"
    assert (top / "bin/tool").read_bytes() == f"#!{top}/bin/python\nprint()\n".encode()
    assert (top / "bin/tool").stat().st_mode & 0o7777 == 0o775
    assert (top / "lib/also.so").samefile(top / "lib/native.so")
    assert (top / "share/absolute").readlink() == top / "etc"
    assert (top / "etc/settings").stat().st_mtime == 1_700_000_000
    assert not (top / UNPACK).exists()


def test_old_path_is_replaced_only_where_it_is_meant(tmp_path: Path) -> None:
    """By each path that the archive has the history named by; a name that goes on is another."""
    behind = f"/data{OLD}"
    said = f"{OLD}/lib {behind}/lib {OLD}-project {behind}-project /net{OLD}\n"
    data = tar(
        file("share/paths", said.encode()),
        file("conda-meta/history", f"# cmd: {behind}/bin/conda\n".encode()),
        entry("share/link", tarfile.SYMTYPE, behind + "/etc"),
        script(
            ("share/paths", behind, "text"),
            ("share/paths", OLD, "text"),
            ("conda-meta/history", behind, "text"),
            ("conda-meta/history", OLD, "text"),
            ("conda-meta/history", "/", "text"),
            ("conda-meta/history", "etc", "text"),
        ),
    )
    archive, top = tmp_path / "archive", tmp_path / "there/envs/myenv"
    archive.write_bytes(data)
    top.mkdir(parents=True)
    assert unpack(archive, top) == (behind.encode(), OLD.encode())
    kept = f"{OLD}-project {behind}-project /net{OLD}\n"
    assert (top / "share/paths").read_text() == f"{top}/lib {top}/lib {kept}"
    assert (top / "share/link").readlink() == top / "etc"


@pytest.mark.parametrize("says_where", [True, False], ids=["of envsync", "of plain conda-pack"])
@pytest.mark.parametrize("old", [OLD, f"/a/long/way/{'down/' * 50}envs/myenv"])
def test_file_with_nuls_keeps_its_length_whatever_its_record_says(
    tmp_path: Path, old: str, says_where: bool
) -> None:
    """conda-pack takes a binary without a byte above 127 for text, as a tar of texts is."""
    inner = tar(file("settings", f"home={old}/share\n".encode()), file("next", b"next"))
    assert inner.decode().isascii()
    where = [("conda-meta/history", old, "text")] if says_where else []
    records = script(("share/inner.tar", old, "text"), *where)
    data = tar(file("conda-meta/history", b""), file("share/inner.tar", inner), records)
    top = unpacked(tmp_path, data)
    in_place = f"{top}".ljust(len(old), "/") if len(old) > len(f"{top}") else old
    with tarfile.open(top / "share/inner.tar") as archive:
        said = {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]
    assert said == {"settings": f"home={in_place}/share\n".encode(), "next": b"next"}


def test_a_link_is_moved_once_by_the_longest_path(tmp_path: Path) -> None:
    """One placeholder may stand below another."""
    data = tar(
        file("etc/settings", b"none"),
        entry("lib/link", tarfile.SYMTYPE, "/data/alice/envs/my/lib/x"),
        entry("lib/other", tarfile.SYMTYPE, "/data/alice/lib/x"),
        script(
            ("etc/settings", "/data/alice", "text"), ("etc/settings", "/data/alice/envs/my", "text")
        ),
    )
    top = unpacked(tmp_path, data)
    assert (top / "lib/link").readlink() == top / "lib/x"
    assert (top / "lib/other").readlink() == top / "lib/x"


@pytest.mark.parametrize(
    "entries",
    [
        [entry("../evil")],
        [entry("/evil")],
        [entry("a/../../evil")],
        [entry("a", tarfile.SYMTYPE, ".."), entry("a/evil")],
        [entry("a", tarfile.SYMTYPE, "/etc"), entry("a/evil")],
        [entry("a", tarfile.SYMTYPE, "b"), entry("b", tarfile.DIRTYPE), entry("a/evil")],
        [entry("a", tarfile.SYMTYPE, "/etc"), entry("b", tarfile.LNKTYPE, "a/passwd")],
        [entry("a", tarfile.LNKTYPE, "../../../archive")],
        [entry("a", tarfile.LNKTYPE, "/etc/passwd")],
        [entry("a", tarfile.LNKTYPE, "missing")],
        [entry("a", tarfile.FIFOTYPE)],
        [entry("a", tarfile.CHRTYPE)],
        [script(("../evil", OLD, "text"))],
        [script(("/etc/passwd", OLD, "text"))],
        [script(("missing", OLD, "text"))],
        [script(("bin", OLD, "text"))],
        [script(("bin/x", OLD, "python"))],
        [script(("bin/x", "", "text"))],
        [file("conda-meta/history", b"x"), script(("conda-meta/history", "/\ud800", "text"))],
        [script("bin/x")],
        [file(UNPACK, b"_prefix_records = [\n__import__('os').abort()\n]\n")],
        [file(UNPACK, b"_prefix_records = [\n{[]: 1}\n]\n")],
        [file(UNPACK, b"nothing\n")],
        [entry(UNPACK, tarfile.SYMTYPE, "/dev/zero")],
        [entry(UNPACK, tarfile.DIRTYPE)],
    ],
)
def test_archive_entry_that_leads_out_is_refused(tmp_path: Path, entries: Sequence[Entry]) -> None:
    has_script = any(member.name == UNPACK for member, _ in entries)
    whole = [*entries, *([] if has_script else [script()])]
    before = names(tmp_path.parent)
    with pytest.raises(SourceRefused):
        unpacked(tmp_path, tar(*whole))
    assert names(tmp_path.parent) == before
    assert names(tmp_path) == ["archive", "there"]
    assert names(tmp_path / "there") == ["envs"]


@pytest.mark.parametrize(
    ("name", "leads_to"), [("conda-meta/python-3.json", "/dev/zero"), ("conda-meta", "/dev")]
)
def test_nothing_is_read_behind_a_link(tmp_path: Path, name: str, leads_to: str) -> None:
    top = unpacked(tmp_path, tar(entry(name, tarfile.SYMTYPE, leads_to), script()))
    assert (top / name).readlink() == Path(leads_to)


def test_nothing_is_changed_behind_a_link(tmp_path: Path) -> None:
    _, content = script()
    outside = tmp_path / "outside"
    outside.mkdir()
    outside.joinpath("conda-unpack").write_bytes(content)
    outside.joinpath("tool").write_text("#!/usr/bin/env python\n")
    with pytest.raises(SourceRefused):
        unpacked(tmp_path, tar(entry("bin", tarfile.SYMTYPE, str(outside))))
    assert outside.joinpath("conda-unpack").read_bytes() == content
    assert outside.joinpath("tool").read_text() == "#!/usr/bin/env python\n"


def dated(mtime: str) -> bytes:
    """An archive with a time that a file cannot have."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo("etc/x")
        member.pax_headers = {"mtime": mtime}
        archive.addfile(member, io.BytesIO())
        member, content = script()
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        dated("inf"),
        dated("nan"),
        dated("-1e300"),
        tar(file("a" * 300, b""), script()),
        tar(file("/".join(["d" * 200] * 30), b""), script()),
        tar(entry("a", tarfile.SYMTYPE), script()),
        tar(entry("a", tarfile.DIRTYPE), entry("a"), script()),
        tar(entry("a", tarfile.DIRTYPE), entry("a", tarfile.SYMTYPE, "b"), script()),
        tar(entry("a", tarfile.DIRTYPE), entry("b"), entry("a", tarfile.LNKTYPE, "b"), script()),
    ],
    ids=list("abcdefghi"),
)
def test_archive_entry_that_cannot_be_created_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(SourceRefused, match="which cannot be created"):
        unpacked(tmp_path, data)


@pytest.mark.parametrize(
    ("content", "records"),
    [(b"a" * 2_000_000, [("x", "a", "text")]), (b"/", [("x", "/", "text")] * 40)],
    ids=["every letter", "again and again"],
)
def test_replacement_that_makes_a_file_too_large_is_refused(
    tmp_path: Path, content: bytes, records: Sequence[object]
) -> None:
    with pytest.raises(SourceRefused, match="makes 'x' too large"):
        unpacked(tmp_path, tar(file("x", content), script(*records)))
    assert sum(path.lstat().st_size for path in tmp_path.rglob("*")) < 100_000_000


def test_a_file_is_read_once_for_all_that_it_is_named_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large one may be named again and again."""
    changed: list[str] = []
    replace = RewrittenFiles.replace

    def count(files: RewrittenFiles, path: Path, *change: Any) -> None:
        changed.append(path.name)
        replace(files, path, *change)

    monkeypatch.setattr(RewrittenFiles, "replace", count)
    records = [("x", f"/opt/{number}/e", "text") for number in range(3)]
    data = tar(file("x", b"/opt/2/e/y /opt/0/e/y\n"), script(*records))
    top = unpacked(tmp_path, data)
    assert (top / "x").read_text() == f"{top}/y {top}/y\n"
    assert changed.count("x") == 1
    (tmp_path / "many").mkdir()
    with pytest.raises(SourceRefused, match="names 'x' 300 times"):
        unpacked(tmp_path / "many", tar(entry("x"), script(*records * 100)))


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_records_of_files_that_are_rewritten_are_true(tmp_path: Path) -> None:
    """Whether a file comes as packaged, or as it was installed where it was packed."""
    hold = "/placehold" * 9
    site = "lib/python3.11/site-packages/x-1.dist-info"
    packaged = {
        "lib/text": f"{hold}/lib\n".encode(),
        "lib/binary": b"\x7fELF" + hold.encode() + b"/lib\0rest\0",
        "bin/tool": f"#!{hold}/bin/python\n".encode(),
    }
    edited, mine = f"{OLD}/mine\n".encode(), f"#!{OLD}/bin/python3.11\n".encode()

    def claim(path: str, digest: str, in_prefix: bytes, size_bytes: int) -> dict[str, object]:
        declared = {"prefix_placeholder": hold, "file_mode": "text"}
        digests = {"sha256": digest, "sha256_in_prefix": sha256(in_prefix)}
        return {"_path": path, **digests, "size_in_bytes": size_bytes, **declared}

    claims = [
        claim(path, sha256(content), content.replace(hold.encode(), OLD.encode()), len(content))
        for path, content in packaged.items()
    ]
    # As rattler writes it, which records the installed size.
    claims[0]["size_in_bytes"] = len(f"{OLD}/lib\n")
    claims.append(claim("lib/edited", sha256(b"packaged"), edited, len(edited)))
    claims.append(claim("lib/wrong", sha256(b"packaged"), b"other", 5))
    digest = base64.urlsafe_b64encode(hashlib.sha256(mine).digest()).rstrip(b"=").decode()
    record = f"../../../bin/mine,sha256={digest},{len(mine)}\n"
    claims.append({"_path": f"{site}/RECORD", "sha256_in_prefix": sha256(record.encode())})
    data = tar(
        file("lib/text", packaged["lib/text"]),
        file("lib/binary", packaged["lib/binary"]),
        file("bin/tool", b"#!/usr/bin/env python\n"),
        file("bin/mine", b"#!/usr/bin/env python3.11\n"),
        file("lib/edited", edited),
        file("lib/wrong", edited),
        file(f"{site}/RECORD", record.encode()),
        file("conda-meta/x-1-0.json", json.dumps({"paths": claims}).encode()),
        file("conda-meta/history", OLD.encode()),
        script(
            ("conda-meta/history", OLD, "text"),
            ("lib/text", hold, "text"),
            ("lib/binary", hold, "binary"),
            ("lib/edited", OLD, "text"),
            ("lib/wrong", OLD, "text"),
        ),
    )
    top = unpacked(tmp_path, data)
    known = {
        path["_path"]: path
        for path in json.loads((top / "conda-meta/x-1-0.json").read_bytes())["paths"]
    }
    told = {path: claimed["sha256_in_prefix"] for path, claimed in known.items()}
    assert told.pop("lib/wrong") == sha256(b"other")
    assert told == {path: sha256((top / path).read_bytes()) for path in told}
    sizes = {path: known[path]["size_in_bytes"] for path in packaged}
    assert sizes == {
        "lib/text": len(f"{top}/lib\n"),
        "lib/binary": len(packaged["lib/binary"]),
        "bin/tool": len(packaged["bin/tool"]),
    }
    now = (top / "bin/mine").read_bytes()
    digest = base64.urlsafe_b64encode(hashlib.sha256(now).digest()).rstrip(b"=").decode()
    said = (top / site / "RECORD").read_text()
    assert said == f"../../../bin/mine,sha256={digest},{len(now)}\n"


def test_activation_scripts_that_conda_pack_added_are_removed_and_a_users_own_stay(
    tmp_path: Path,
) -> None:
    import conda_pack

    scripts = Path(conda_pack.__file__).parent / "scripts/posix"
    added = [
        file(f"bin/{name}", (scripts / name).read_bytes())
        for name in ("activate", "deactivate", "activate.fish")
    ]
    (tmp_path / "packed").mkdir()
    assert names(unpacked(tmp_path / "packed", tar(*added, script())) / "bin") == []
    own = [file(member.name, b"# mine\n") for member, _ in added]
    (tmp_path / "own").mkdir()
    top = unpacked(tmp_path / "own", tar(*own, script()))
    assert names(top / "bin") == ["activate", "activate.fish", "deactivate"]


def test_what_follows_the_end_of_an_archive_is_left_out(tmp_path: Path) -> None:
    data = gzip.compress(tar(entry("first"), script())) + gzip.compress(tar(entry("second")))
    assert names(unpacked(tmp_path, data)) == ["bin", "first"]


def test_conda_packs_own_script_may_be_in_its_list(tmp_path: Path) -> None:
    """As where somebody ran `conda-unpack`, which stays: the next archive's list names it."""
    names_itself = script((UNPACK, "/opt/x", "text"), ("share/x", "/opt/x", "text"))
    top = unpacked(tmp_path, tar(file("share/x", b"/opt/x\n"), names_itself))
    assert (top / "share/x").read_text() == f"{top}\n"
    assert names(top / "bin") == []


@pytest.mark.parametrize("says_where", [True, False], ids=["of envsync", "of plain conda-pack"])
def test_script_that_found_python_along_the_path_before_it_was_packed_goes_on_doing_so(
    tmp_path: Path, says_where: bool
) -> None:
    """conda-pack records it for what else it may name, but not one that it gave such a line."""
    line = b"#!/usr/bin/env python\n"
    where = [("conda-meta/history", OLD, "text")] if says_where else []
    data = tar(
        file("bin/mine", line + OLD.encode()),
        file("bin/given", line),
        file("conda-meta/history", b""),
        script(("bin/mine", OLD, "text"), *where),
    )
    top = unpacked(tmp_path, data)
    assert (top / "bin/mine").read_bytes() == line + bytes(top)
    assert (top / "bin/given").read_text() == f"#!{top}/bin/python\n"


def test_an_interpreter_that_was_named_is_not_replaced_once_more(tmp_path: Path) -> None:
    """The environment was packed at a directory above the one where it is unpacked, or a link."""
    python = file("bin/tool", f"#!/usr/bin/env python\n{tmp_path}/x\n".encode())
    where = [("conda-meta/history", path, "text") for path in (f"{tmp_path}", OLD)]
    history = file("conda-meta/history", b"")
    data = tar(python, history, script(("bin/tool", f"{tmp_path}", "text"), *where))
    top = unpacked(tmp_path, data)
    assert (top / "bin/tool").read_text() == f"#!{top}/bin/python\n{top}/x\n"


def test_a_script_is_compared_with_its_own_package_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small archive may have a great many scripts, and other files that name prefixes."""
    prefixes: list[bytes] = []
    with_python = conda_unpack._with_python

    def count(content: bytes, prefix: bytes) -> bytes:
        prefixes.append(prefix)
        return with_python(content, prefix)

    monkeypatch.setattr(conda_unpack, "_with_python", count)
    declared = [
        {"_path": path, "prefix_placeholder": f"/hold/{path}", "file_mode": "text"}
        for path in ("bin/tool", *(f"lib/{number}" for number in range(100)))
    ]
    data = tar(
        file("bin/tool", b"#!/usr/bin/env python\n"),
        file("conda-meta/x-1-0.json", json.dumps({"paths": declared}).encode()),
        script(),
    )
    top = unpacked(tmp_path, data)
    assert set(prefixes) == {bytes(top), b"/hold/bin/tool"}


def test_a_large_text_that_names_its_place_may_grow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conda_unpack, "_GROWTH_MAX_BYTES", 0)
    line = f"{OLD}/bin/tool wrote a line into the log, as it does {'again and ' * 50}again\n"
    data = tar(file("log", line.encode() * 100), script(("log", OLD, "text")))
    top = unpacked(tmp_path, data)
    assert (top / "log").read_text().count(f"{top}/bin/tool") == 100


@pytest.mark.parametrize("leads_to", ["/nonexistent/data", "/etc", "../../../..", "s/up/../x"])
def test_a_link_may_lead_where_it_led(tmp_path: Path, leads_to: str) -> None:
    links = [entry("s/up", tarfile.SYMTYPE, ".."), entry("a", tarfile.SYMTYPE, leads_to)]
    top = unpacked(tmp_path, tar(*links, script()))
    assert (top / "a").readlink() == Path(leads_to)


WHOLE = tar(entry("a"), script())
BROKEN = {
    "empty": (b"", "no archive: empty file"),
    "text": (b"no archive at all", "no archive: truncated header"),
    "cut in a file": (tar(entry("a"))[:700], "no archive: unexpected end of data"),
    "cut between files": (tar(entry("a")), "not from conda-pack, or its end is missing"),
    "cut gzip": (gzip.compress(WHOLE)[:-20], "no archive: Compressed file ended before"),
    "damaged gzip": (gzip.compress(WHOLE)[:-8] + bytes(8), "no archive: CRC check failed"),
    "cut xz": (lzma.compress(WHOLE)[:-20], "no archive: it ends too early"),
    "xz and more": (lzma.compress(WHOLE) + b"more", "no archive: it ends too early"),
    "cut zstd": (zstandard.ZstdCompressor().compress(WHOLE)[:60], "no archive: empty file"),
    "no frame of zstd": (b"\x28\xb5\x2f\xfdnonsense", "no archive: cannot get frame"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_ones_are_refused(kind: str, tmp_path: Path) -> None:
    data, said = BROKEN[kind]
    with pytest.raises(SourceRefused, match=said) as refused:
        unpacked(tmp_path, data)
    assert refused.value.exit_code == 9
    assert "envsync pack" in refused.value.hint


def header(kind: bytes, size: int, name: str = "x", pax: dict[str, str] | None = None) -> bytes:
    """A header alone, whatever may follow it."""
    member = tarfile.TarInfo(name)
    member.type, member.size, member.pax_headers = kind, size, pax or {}
    return member.tobuf(tarfile.PAX_FORMAT if pax else tarfile.GNU_FORMAT)


MANY = 1 << 40
SPARSE = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}
A_MIB = (1 << 20) + 1
LARGE = 24 << 20


@pytest.mark.parametrize(
    "data",
    [
        header(tarfile.GNUTYPE_LONGNAME, MANY),
        header(tarfile.GNUTYPE_LONGLINK, MANY),
        header(tarfile.XHDTYPE, MANY),
        header(tarfile.XGLTYPE, MANY),
        header(tarfile.GNUTYPE_LONGNAME, -512),
        header(tarfile.XHDTYPE, A_MIB) + bytes(2 * A_MIB),
        header(tarfile.GNUTYPE_LONGNAME, LARGE) + bytes(LARGE) + tar(entry("a"), script()),
        (header(tarfile.GNUTYPE_LONGNAME, 512) + bytes(512)) * 1000,
        (header(tarfile.XGLTYPE, 512) + bytes(512) + tar(entry("a"))[:1024]) * 20,
        header(tarfile.GNUTYPE_SPARSE, 512),
        header(tarfile.REGTYPE, 512, pax=SPARSE) + b"9" * 9 + b"\n" + b"0\n" * 5000,
        header(tarfile.REGTYPE, 512, pax={"GNU.sparse.size": "x"}),
        header(tarfile.REGTYPE, MANY, "."),
        tar(entry("a"), script()) + bytes(LARGE),
    ],
    ids=list("abcdefghijklmn"),
)
def test_a_small_archive_takes_little_memory_and_time(
    tmp_path: Path, data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it says that it has: tarfile would read headers of any size."""
    monkeypatch.setattr(archive_entries, "_AFTER_END_MAX_BYTES", LARGE // 2)
    small = zstandard.ZstdCompressor().compress(data)
    tracemalloc.start()
    try:
        with pytest.raises(SourceRefused):
            unpacked(tmp_path, small)
        assert tracemalloc.get_traced_memory()[1] < LARGE // 2
    finally:
        tracemalloc.stop()


def test_xz_may_not_ask_for_gigabytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = lzma.compress(tar(script()), preset=9)
    monkeypatch.setattr(decompression, "_XZ_MEMORY_MAX_BYTES", 16 << 20)
    with pytest.raises(SourceRefused, match="Memory usage limit"):
        unpacked(tmp_path, packed)


@pytest.mark.parametrize("zeros", range(0, 40, 4))
def test_xz_may_have_zeros_between_its_streams(monkeypatch: pytest.MonkeyPatch, zeros: int) -> None:
    """However they lie to the blocks that are read, and at its end."""
    data = tar(file("bin/tool", b"tool"), script())
    one, two = lzma.compress(data[:700]), lzma.compress(data[700:])
    for block_bytes in range(4, 24):
        monkeypatch.setattr(decompression, "_BLOCK_BYTES", block_bytes)
        file_ = io.BytesIO(one + bytes(zeros) + two + bytes(zeros))
        with decompression._xz(file_, "rb") as stream:
            assert stream.read() == data


def test_archive_with_too_many_entries_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive_entries, "_ENTRIES_MAX", 3)
    with pytest.raises(SourceRefused, match="more than 3 entries"):
        unpacked(tmp_path, tar(*(entry(f"f{n}") for n in range(3)), script()))


def test_long_names_and_what_else_tools_write_are_taken(tmp_path: Path) -> None:
    name = "/".join(["d" * 200] * 10)
    described, content = file(name, b"long")
    described.pax_headers = {"SCHILY.xattr.user.note": "x" * 200_000}
    top = unpacked(tmp_path, tar((described, content), script()))
    assert (top / name).read_bytes() == b"long"


@pytest.fixture
def homeless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a user without a home unpacks: in a directory that everybody may write to."""
    monkeypatch.setattr(unpack_place, "unpacked_directory", lambda _: None)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path / f"envsync-{os.geteuid()}"


def test_a_user_without_a_home_unpacks_in_private(homeless: Path) -> None:
    place = UnpackPlace("myenv")
    assert place.prefix.is_relative_to(homeless)
    assert homeless.stat().st_mode & 0o777 == 0o700
    place.close()


@pytest.mark.parametrize("what", ["a link", "open to others", "somebody else's"])
def test_directory_that_another_user_made_is_not_used(
    what: str, homeless: Path, tmp_path: Path
) -> None:
    if what == "a link":
        homeless.symlink_to(tmp_path)
    else:
        homeless.mkdir()
        homeless.chmod(0o755 if what == "open to others" else 0o700)
    if what == "somebody else's":
        if os.geteuid():
            pytest.skip("only root can make a directory of another user's")
        os.chown(homeless, NOBODY, -1)
    with pytest.raises(SourceRefused, match="private"):
        UnpackPlace("myenv")
    assert not list(tmp_path.rglob("unpacked"))


@pytest.mark.parametrize("what", ["a link", "open to others", "somebody else's"])
@pytest.mark.parametrize("at", ["unpacked", "unpacked/myenv"])
def test_nothing_is_unpacked_in_what_another_user_made_in_a_shared_cache_directory(
    at: str, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    foreign, users_own = tmp_path / "envsync" / at, tmp_path / "miniconda3"
    (users_own / "envs").mkdir(parents=True)
    foreign.parent.mkdir(parents=True)
    foreign.parent.chmod(0o777)
    if what == "a link":
        foreign.symlink_to(users_own)
    else:
        foreign.mkdir()
        foreign.chmod(0o777 if what == "open to others" else 0o700)
    if what == "somebody else's":
        if os.geteuid():
            pytest.skip("only root can make a directory of another user's")
        os.chown(foreign, NOBODY, -1)
    with pytest.raises(SourceRefused, match="private"):
        UnpackPlace("myenv")
    assert names(users_own) == ["envs"]


def test_unpacking_follows_a_link_of_the_users_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To a larger disk, from where nobody else can put one."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "envsync").mkdir(mode=0o700)
    (tmp_path / "large").mkdir(mode=0o700)
    (tmp_path / "envsync/unpacked").symlink_to(tmp_path / "large")
    place = UnpackPlace("myenv")
    assert place.prefix == tmp_path / "large/myenv"
    place.close()


def test_own_directory_that_a_group_can_write_is_told_with_the_command_to_close_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    open_to_group = tmp_path / "envsync/unpacked"
    open_to_group.mkdir(parents=True)
    open_to_group.chmod(0o775)
    with pytest.raises(SourceRefused, match="unpacked is not private") as refused:
        UnpackPlace("myenv")
    assert refused.value.hint == f"chmod 700 {open_to_group}"


def test_unpacking_waits_for_a_gc_that_removes_what_was_left_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    UnpackPlace("myenv").close()
    with (tmp_path / "envsync/unpacked/myenv/lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        waits: list[float] = []

        def end_of_gc(seconds: float) -> None:
            waits.append(seconds)
            fcntl.flock(lock, fcntl.LOCK_UN)

        monkeypatch.setattr(time, "sleep", end_of_gc)
        UnpackPlace("myenv").close()
        assert len(waits) == 1


def test_closing_removes_all_of_a_tree_that_is_still_being_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As at Ctrl-C, which waits for nobody."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    place = UnpackPlace("myenv")
    place.environment.mkdir(parents=True)
    is_at_work = threading.Event()

    def write() -> None:
        # What was there is gone between two looks at it.
        with contextlib.suppress(FileNotFoundError, FileExistsError):
            for number in itertools.count():
                (place.environment / f"{number % 9}").mkdir(exist_ok=True)
                (place.environment / f"{number % 9}/{number}").touch()
                if number == 500:
                    is_at_work.set()

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    is_at_work.wait()
    place.close()
    writer.join()
    assert [path.name for path in place.prefix.iterdir()] == ["lock"]


def test_closing_lets_another_thread_finish_what_it_removes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two that remove one tree would each miss what the other has removed."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    place = UnpackPlace("myenv")
    is_at_work, may_go_on, at_work, overlaps = threading.Event(), threading.Event(), [], []

    def remove(tree: bytes) -> None:
        at_work.append(tree)
        overlaps.append(len(at_work) > 1)
        is_at_work.set()
        may_go_on.wait()
        at_work.pop()

    monkeypatch.setattr(unpack_place, "remove_tree", remove)
    beginning = threading.Thread(target=place.begin)
    beginning.start()
    is_at_work.wait()
    closing = threading.Thread(target=place.close)
    closing.start()
    wait_until_blocked(closing)
    may_go_on.set()
    beginning.join()
    closing.join()
    assert not any(overlaps)


def test_unpacking_of_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        unpack(tmp_path / "nothing", tmp_path)


def test_unpacking_without_a_place_to_do_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with a home that is read-only."""
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc")
    with pytest.raises(StorageFailed, match=r"cannot create /proc/envsync/.*") as caught:
        UnpackPlace("myenv")
    assert "XDG_CACHE_HOME" in caught.value.hint


def test_unpacking_without_working_locks_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a home on NFS without its lock service."""

    def refuse(fd: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(StorageFailed, match=r"cannot lock a file in .*: No locks") as caught:
        UnpackPlace("myenv")
    assert "XDG_CACHE_HOME" in caught.value.hint


def test_an_archive_takes_no_directorys_place(tmp_path: Path) -> None:
    there = tmp_path / "x.tar"
    there.mkdir()
    with pytest.raises(UsageError, match="is a directory"):
        write_archive(tmp_path / "env", there, "tar", force=True)
    assert names(tmp_path) == ["x.tar"]
