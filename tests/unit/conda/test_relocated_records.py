"""What conda and pip recorded of files that were rewritten."""

from __future__ import annotations

import base64
import hashlib
import json

from envsync.conda.metadata import is_conda_record, is_pip_record
from envsync.conda.relocated_records import Rewritten, placeholders, with_new_digests
from envsync.conda.relocation import BINARY, TEXT, Placeholder

OLD, NEW = (hashlib.sha256(word).digest() for word in (b"old", b"new"))
FILES = {OLD: Rewritten(100, NEW, 90)}


def entry(path: str, digest: bytes, size_bytes: int) -> dict[str, object]:
    return {
        "_path": path,
        "sha256": "0" * 64,
        "sha256_in_prefix": digest.hex(),
        "size_in_bytes": size_bytes,
    }


def test_a_conda_record_names_what_the_file_is_there() -> None:
    """Its size only where the record has it as installed, as rattler does; conda does not."""
    paths = [entry("a{b}", OLD, 100), entry("c", OLD, 255), entry('d"{', bytes(32), 100)]
    record = {"name": "x", "paths_data": {"paths": paths}, "files": ["a{b}"]}
    for indent in (None, 2):
        content = json.dumps(record, indent=indent).encode()
        there = with_new_digests(b"conda-meta/x-1-0.json", content, FILES)
        expected = [entry("a{b}", NEW, 90), entry("c", NEW, 255), paths[2]]
        assert json.loads(there) == {**record, "paths_data": {"paths": expected}}
        back = with_new_digests(b"conda-meta/x-1-0.json", there, {NEW: Rewritten(90, OLD, 100)})
        assert back == content


def pip_line(path: str, digest: bytes, size_bytes: int) -> bytes:
    text = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    return f"{path},sha256={text},{size_bytes}\r\n".encode()


def test_a_pip_record_names_what_the_file_is_there() -> None:
    others = pip_line('"a,b"', bytes(32), 100) + b"x.dist-info/RECORD,,\r\n"
    # Of another size: not what this file was, so the record was wrong already.
    others += pip_line("c", OLD, 99)
    content = pip_line("../../../bin/x", OLD, 100) + others
    path = b"lib/python3.11/site-packages/x.dist-info/RECORD"
    assert with_new_digests(path, content, FILES) == pip_line("../../../bin/x", NEW, 90) + others
    assert with_new_digests(path, content, {}) == content


def test_which_files_are_records() -> None:
    assert is_conda_record(b"conda-meta/x-1-0.json")
    assert not is_conda_record(b"conda-meta/history")
    assert not is_conda_record(b"pkgs/conda-meta/x.json")
    assert is_pip_record(b"lib/python3.11/site-packages/x-1.dist-info/RECORD")
    assert not is_pip_record(b"x-1.dist-info/METADATA")


def test_placeholders_are_read_from_records_and_damage_is_ignored() -> None:
    paths = [
        {"_path": "bin/x", "prefix_placeholder": "/" + "p" * 254, "file_mode": "binary"},
        {"_path": "etc/y", "prefix_placeholder": "/opt/p", "file_mode": "text"},
        {"_path": "lib/z", "prefix_placeholder": "/opt/p", "file_mode": "odd"},
        {"_path": "plain"},
        {"_path": "\ud800", "prefix_placeholder": "/opt/p", "file_mode": "text"},
        "nonsense",
    ]
    content = json.dumps({"paths_data": {"paths": paths}}).encode()
    assert placeholders(content) == {
        b"bin/x": Placeholder(BINARY, 255),
        b"etc/y": Placeholder(TEXT, 6),
    }
    for damaged in (b"", b'{"prefix_placeholder"', b'["prefix_placeholder"]'):
        assert placeholders(damaged) == {}
