"""Which kind of archive a name asks for."""

from __future__ import annotations

import pytest

from envsync.push.packing.pack_archive import format_of


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
