"""A size has one spelling for people."""

from __future__ import annotations

import pytest

from envsync.texts.sizes import size


@pytest.mark.parametrize(
    ("size_bytes", "shown"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (99_940, "99.9 kB"),
        (99_960, "100 kB"),
        (999_499, "999 kB"),
        (999_600, "1.0 MB"),
        (1_940_000_000, "1.9 GB"),
        (3_000_000_000_000_000_000, "3000 PB"),
    ],
)
def test_size_has_a_decimal_unit(size_bytes: int, shown: str) -> None:
    assert size(size_bytes) == shown
