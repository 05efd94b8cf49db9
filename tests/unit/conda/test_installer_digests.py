"""What installers noted of their files, however odd the notes are."""

from __future__ import annotations

import base64
import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envsync.conda.installer_digests import in_conda_record, in_pip_record

DIGEST = hashlib.sha256(b"content").digest()
PACKED = hashlib.sha256(b"with a placeholder").digest()


def test_a_package_record_tells_digests_as_installed() -> None:
    rows = [
        {"_path": "lib/a.so", "sha256": PACKED.hex(), "sha256_in_prefix": DIGEST.hex()},
        {"_path": "bin/b", "sha256": DIGEST.hex()},
        {"_path": "lib/link", "path_type": "softlink"},
    ]
    expected = [(b"lib/a.so", DIGEST), (b"bin/b", DIGEST)]
    assert list(in_conda_record(json.dumps({"paths_data": {"paths": rows}}).encode())) == expected
    assert list(in_conda_record(json.dumps({"paths": rows}).encode())) == expected


def test_a_pip_record_tells_paths_beside_it() -> None:
    noted = base64.urlsafe_b64encode(DIGEST).rstrip(b"=").decode()
    lines = f'tool/a.py,sha256={noted},7\n"with, comma",sha256={noted},7\ntool/RECORD,,\n'
    lines += "tool/old,md5=abc,7\ntool/bad,sha256=!,7\n"
    assert list(in_pip_record(lines.encode())) == [
        (b"tool/a.py", DIGEST),
        (b"with, comma", DIGEST),
    ]


@pytest.mark.parametrize(
    "document",
    [b"", b"{", b"[]", b'"x"', b"{}", b'{"paths": 3}', b'{"paths": [null, 1, {}]}', b"[" * 100_000],
)
def test_odd_notes_tell_nothing(document: bytes) -> None:
    assert list(in_conda_record(document)) == []


@pytest.mark.parametrize("character", ["\u2028", "\x0b", "\x1c", "\x85"])
def test_character_that_ends_lines_in_some_texts_may_be_in_a_path(character: str) -> None:
    noted = base64.urlsafe_b64encode(bytes(32)).rstrip(b"=").decode()
    path = f"a{character}b.py"
    record = f"{path},sha256={noted},7\r\n".encode()
    assert list(in_pip_record(record)) == [(path.encode(), bytes(32))]


def test_path_that_no_file_can_have_is_left_out() -> None:
    """It would be opened, which ends in another error than of a file that is not there."""
    row = {"_path": "a\0b", "sha256": DIGEST.hex()}
    assert list(in_conda_record(json.dumps({"paths": [row]}).encode())) == []
    noted = base64.urlsafe_b64encode(DIGEST).rstrip(b"=")
    assert list(in_pip_record(b"a\0b,sha256=%s,7\n" % noted)) == []


@given(st.binary(max_size=200))
def test_no_bytes_are_fatal(content: bytes) -> None:
    for _, digest in (*in_conda_record(content), *in_pip_record(content)):
        assert len(digest) == len(DIGEST)
