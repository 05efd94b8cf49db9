"""Which files are archives, and from where on."""

from __future__ import annotations

import io
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envsync.conda import zip_archive

PROGRAM = b"\x7fELF\0 a program\0"


def archive(
    before: bytes = b"", *, comment: bytes = b"", names: tuple[str, ...] = ("a", "b")
) -> bytes:
    file = io.BytesIO(before)
    with zipfile.ZipFile(file, "a") as opened:
        for name in names:
            opened.writestr(name, "content of " + name)
        opened.comment = comment
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (archive(), (0, 0)),
        (archive(comment=b"PK\x05\x06 said so" * 9), (0, 0)),
        # Its places told from the file's start, and from its own.
        (archive(PROGRAM), (len(PROGRAM), 0)),
        (PROGRAM + archive(), (len(PROGRAM), len(PROGRAM))),
        (b"more" + archive(PROGRAM), (4 + len(PROGRAM), 4)),
        (archive() + b"a signature", (0, 0)),
        # With the record for large ones ahead of the end.
        (PROGRAM + b"PK\x06\x07" + bytes(16) + b"PK\x05\x06" + b"\xff" * 16 + b"\0\0", (0, 0)),
        # What reads archives, or is cut short.
        (PROGRAM + b"PK\x05\x06\0PK\x01\x02\0", None),
        (PROGRAM + b"PK\x05\x06" + bytes(60), None),
        (PROGRAM + b"PK\x05\x06" + b"\1" * 60, None),
        (archive()[:-1], None),
        (archive()[60:], None),
        (archive(names=()), None),
        (b"", None),
    ],
)
def test_start_of_an_archive_is_found(content: bytes, expected: tuple[int, int] | None) -> None:
    assert zip_archive.find(content) == expected


@given(st.binary(max_size=40), st.binary(max_size=80))
def test_any_content_is_taken(before: bytes, after: bytes) -> None:
    found = zip_archive.find(before + b"PK\x01\x02PK\x05\x06" + after)
    assert found is None or min(found) >= 0
