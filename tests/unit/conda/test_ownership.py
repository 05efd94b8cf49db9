"""Changed paths find their packages, and damaged records harm nobody."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envsync.conda import ownership
from envsync.conda.ownership import (
    files_of_conda_meta,
    files_of_record,
    group_paths,
    is_record,
    only_files,
    unowned,
)

SITE = b"lib/python3.11/site-packages/"

FILES = {
    b"conda-meta/numpy-1.26.4-0.json": json.dumps(
        {"files": [(SITE + b"numpy/a.py").decode(), (SITE + b"numpy/b.py").decode(), "bin/f2py"]}
    ).encode(),
    b"conda-meta/zlib-1.3-0.json": b'{"files": ["lib/libz.so"]}',
    SITE + b"flask-3.0.dist-info/RECORD": b"flask/app.py,sha256=x,1\n../../../bin/flask,,\n"
    b'"flask/odd, name.py",,\nflask-3.0.dist-info/RECORD,,\n',
}


def grouped(*changed: bytes, files: dict[bytes, bytes] = FILES) -> list[str]:
    return [str(group) for group in group_paths(changed, [*files, *changed], files.get)]


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ([], []),
        ([SITE + b"numpy/a.py"], ["numpy 1.26.4 0: 1 file"]),
        ([SITE + b"numpy/a.py", SITE + b"numpy/b.py", b"lib/libz.so", b"notes.txt"],
         ["numpy 1.26.4 0: 2 files", "zlib 1.3 0: 1 file", "in no known package: 1 file"]),
        ([SITE + b"flask/odd, name.py", b"bin/flask", SITE + b"flask-3.0.dist-info/REQUESTED"],
         ["flask 3.0: 3 files"]),
        ([SITE + b"numpy/__pycache__/a.cpython-311.pyc",
          SITE + b"numpy/__pycache__/b.cpython-311.opt-1.pyc"], ["numpy 1.26.4 0: 2 files"]),
        ([b"conda-meta/zlib-1.3-0.json"], ["zlib 1.3 0: 1 file"]),
        ([b"odd\xff\n", b"conda-meta/history"], ["in no known package: 2 files"]),
    ],
)  # fmt: skip
def test_changed_paths_are_grouped_by_package(changed: list[bytes], expected: list[str]) -> None:
    assert grouped(*changed) == expected


def test_files_of_no_package_are_found_without_what_is_generated() -> None:
    generated = [SITE + b"mine/__pycache__/a.pyc", b"conda-meta/history", SITE + b"ed.egg-link"]
    generated += [b"lib/gtk/loaders.cache", b"share/glib-2.0/schemas/gschemas.compiled"]
    owned = [b"lib/libz.so", b"bin/flask", SITE + b"flask-3.0.dist-info/REQUESTED"]
    mine = [b"bin/tool", b"share/my data", b"share/my.cache"]
    assert unowned([*FILES, *owned, *generated, *mine], FILES.get) == mine


def test_files_of_an_egg_info_belong_to_its_package() -> None:
    """As an old pip installed it."""
    top = SITE + b"old-1.0.egg-info/"
    files = {top + b"installed-files.txt": b"../old/a.py\nPKG-INFO\n"}
    paths = [*files, top + b"PKG-INFO", SITE + b"old/a.py"]
    assert unowned(paths, files.get) == []
    assert grouped(SITE + b"old/a.py", files=files) == ["old 1.0: 1 file"]


def test_file_that_pip_put_over_condas_is_pips() -> None:
    over = {**FILES, SITE + b"numpy-2.0.dist-info/RECORD": b"numpy/a.py,,\n"}
    assert grouped(SITE + b"numpy/a.py", files=over) == ["numpy 2.0: 1 file"]


def test_the_metadata_of_what_conda_installed_is_condas() -> None:
    metadata = SITE + b"numpy-1.26.4.dist-info/INSTALLER"
    record = json.dumps({"files": [metadata.decode()]}).encode()
    files = {b"conda-meta/numpy-1.26.4-0.json": record, metadata: b"conda"}
    assert grouped(metadata, files=files) == ["numpy 1.26.4 0: 1 file"]


def test_grouping_reads_only_the_records_it_needs() -> None:
    asked: list[bytes] = []

    def read(path: bytes) -> bytes | None:
        asked.append(path)
        return FILES.get(path)

    group_paths([SITE + b"flask-3.0.dist-info/METADATA"], list(FILES), read)
    assert asked == []
    group_paths([SITE + b"flask/app.py"], list(FILES), read)
    assert asked == [SITE + b"flask-3.0.dist-info/RECORD"]


def test_a_record_out_of_all_proportion_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ownership, "RECORD_MAX_BYTES", 10)
    assert grouped(b"lib/libz.so") == ["in no known package: 1 file"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"7",
        b"\xff\xfe",
        b'{"files": 7}',
        b'{"files": [7, null]}',
        b'{"files": ["\\ud800"]}',
        b"[" * 100_000,
    ],
)
def test_damaged_conda_meta_owns_nothing(content: bytes) -> None:
    assert not any(files_of_conda_meta(content))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", []),
        (b"\n\n,,\n", []),
        (b"../../../../../etc/passwd,,\n/etc/passwd,,\na.py,,\n", [SITE + b"a.py"]),
        (b"..,,\n../../..,,\n../../../..,,\n", [b"lib/python3.11", b".", b".."]),
        (b'a.py,,\n"unclosed', [SITE + b"a.py", SITE + b"unclosed"]),
        (b"\xff.py,,\n", [SITE + b"\xff.py"]),
    ],
)
def test_files_of_a_record_are_read(content: bytes, expected: list[bytes]) -> None:
    assert list(files_of_record(content, SITE.rstrip(b"/"))) == expected


@given(st.binary())
def test_any_bytes_are_taken(content: bytes) -> None:
    files_of_conda_meta(content)
    for path in files_of_record(content, SITE.rstrip(b"/")):
        assert not path.startswith((b"/", b"../"))


@given(st.sets(st.sampled_from([b"lib/libz.so", b"bin/flask", SITE + b"numpy/a.py", b"x", b"y"])))
def test_every_path_is_counted_once(changed: set[bytes]) -> None:
    groups = group_paths(changed, [*FILES, *changed], FILES.get)
    assert sum(group.path_count for group in groups) == len(changed)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"conda-meta/zlib-1.3-0.json", True),
        (SITE + b"flask-3.0.dist-info/RECORD", True),
        (SITE + b"flask-3.0.dist-info/direct_url.json", False),
        (SITE + b"flask-3.0.dist-info", False),
        (b"conda-meta/../../secret-1-0.json", False),
        (b"/etc/passwd", False),
        (b"/home/bob/envs/his/" + SITE + b"flask-3.0.dist-info/RECORD", False),
        (b"../his/" + SITE + b"flask-3.0.dist-info/RECORD", False),
        (b"lib/../../site-packages/flask-3.0.dist-info/RECORD", False),
    ],
)
def test_record_paths_are_recognized(path: bytes, expected: bool) -> None:
    assert is_record(path) == expected


def test_credentials_of_a_record_are_left_out() -> None:
    content = b'{"channel": "https://host/t/token/main", "files": ["lib/libz.so"]}'
    assert only_files(b"conda-meta/zlib-1.3-0.json", content) == '{"files": ["lib/libz.so"]}'
