"""A path is found in a file whatever its encoding; what only begins like it is told apart."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envsync.conda.needles import PLAIN, WIDE, needles
from envsync.conda.relocation import Relocation, between

OLD = "/w/conda/envs/my"
WIDE_ENCODINGS = ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"]


def moving(old: str) -> Relocation:
    path = old.encode()
    return between(path, path, b"/o/envs/my")


@given(
    before=st.binary(max_size=9),
    after=st.binary(max_size=9),
    encoding=st.sampled_from(WIDE_ENCODINGS),
    old=st.sampled_from([OLD, "/w/cönda/envs/my", "/w/公/envs/my"]),
)
def test_wide_path_is_found_at_any_offset(
    before: bytes, after: bytes, encoding: str, old: str
) -> None:
    relocation = moving(old)
    content = before + f"x={old}/lib\n".encode(encoding) + after
    assert relocation.needles.found_in(content) & WIDE
    assert relocation.names_any_widely(content)
    assert not relocation.needles.found_in(content) & PLAIN
    assert relocation.rewrite(content) == content


@pytest.mark.parametrize("encoding", WIDE_ENCODINGS)
@pytest.mark.parametrize("text", ["/w/conda-old/envs/my", "/net/server1/w/conda/envs/my", "/w/con"])
def test_longer_name_is_not_taken_for_the_path(encoding: str, text: str) -> None:
    assert not moving(OLD).names_any_widely(text.encode(encoding) + b"\0\0\0\0")


@pytest.mark.parametrize("encoding", WIDE_ENCODINGS)
def test_longer_name_hides_no_path_behind_it(encoding: str) -> None:
    content = f"/w/conda-old {OLD}".encode(encoding)
    assert moving(OLD).names_any_widely(content)


def test_two_strings_are_all_that_is_looked_for() -> None:
    assert list(map(len, needles([b"/w/conda"]).wide)) == [15, 29]


def test_a_path_that_is_no_text_is_found_as_it_is() -> None:
    relocation = between(b"/w/\xff/envs/my", b"/w/\xff/envs/my", b"/o/envs/my")
    assert relocation.needles.found_in(b"\0/w/\xff/x") == PLAIN
    assert not relocation.names_any_widely(b"\0/w/\xff/x")
