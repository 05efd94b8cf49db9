"""When an environment counts as busy or broken, and when that only deserves a warning."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envsync.conda.busy import is_sign, signs

SITE = b"lib/python3.11/site-packages/"
NOW = 1_700_000_000.0
HISTORY = (b"conda-meta/history", NOW - 86_400)


@pytest.mark.parametrize(
    ("path", "top"),
    [
        (SITE + b"~umpy", SITE + b"~umpy"),
        (SITE + b"~umpy/core/a.py", SITE + b"~umpy"),
        (b".condatmp/x", b".condatmp"),
        (b"lib/libz.so.c~", b"lib/libz.so.c~"),
    ],
)
@pytest.mark.parametrize(
    ("age_seconds", "blocking"), [(0, True), (599, True), (601, False), (-5, True), (10**8, False)]
)
def test_leftovers_of_installers_are_signs(
    path: bytes, top: bytes, age_seconds: float, blocking: bool
) -> None:
    found = signs([HISTORY, (path, NOW - age_seconds)], NOW)
    assert [(sign.path, sign.blocking) for sign in found] == [(top, blocking)]
    assert is_sign(path)


@pytest.mark.parametrize(
    "path",
    [b"share/~notes", SITE + b"numpy/~x", b"bin/a~", b"etc/condatmp", b"", b"conda-meta/x.json"],
)
def test_ordinary_files_are_no_sign(path: bytes) -> None:
    assert signs([HISTORY, (path, NOW)], NOW) == ()
    assert not is_sign(path)


def test_a_leftover_is_told_once_and_is_as_young_as_its_youngest_part() -> None:
    paths = [HISTORY, (SITE + b"~a/new", NOW), (SITE + b"~a", 0.0), (SITE + b"~a/old", 1.0)]
    (sign,) = signs(paths, NOW)
    assert sign.blocking


def test_missing_history_is_a_blocking_sign() -> None:
    (sign,) = signs([(b"bin/python", 0.0)], NOW)
    assert sign.blocking
    assert "history" in sign.message


@given(st.lists(st.tuples(st.binary(), st.floats(allow_nan=False))))
def test_any_paths_are_taken(paths: list[tuple[bytes, float]]) -> None:
    signs(paths, NOW)
