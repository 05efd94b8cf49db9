from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envsync.inventory import ranges

LETTERS = st.text("abcxyz", min_size=1, max_size=5)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("server1", ["server1"]),
        ("", [""]),
        ("gpu[03-05]", ["gpu03", "gpu04", "gpu05"]),
        ("gpu[8-11]", ["gpu8", "gpu9", "gpu10", "gpu11"]),
        ("gpu[08-11]", ["gpu08", "gpu09", "gpu10", "gpu11"]),
        ("gpu[98-101]", ["gpu98", "gpu99", "gpu100", "gpu101"]),
        ("gpu[098-101]", ["gpu098", "gpu099", "gpu100", "gpu101"]),
        ("gpu[01-03,07]", ["gpu01", "gpu02", "gpu03", "gpu07"]),
        ("gpu[7, 1-2]", ["gpu7", "gpu1", "gpu2"]),
        ("gpu[5]", ["gpu5"]),
        ("gpu[0-1]", ["gpu0", "gpu1"]),
        ("r[1-2]n[01-02].lab", ["r1n01.lab", "r1n02.lab", "r2n01.lab", "r2n02.lab"]),
        ("[1-2]", ["1", "2"]),
    ],
)
def test_a_range_stands_for_its_names(text: str, names: list[str]) -> None:
    assert ranges.expand(text) == tuple(names)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gpu[", "every bracket closed"),
        ("gpu]", "every bracket closed"),
        ("gpu[1-[2]]", "every bracket closed"),
        ("gpu[]", "a range such as gpu[03-08]"),
        ("gpu[1-]", "a range such as"),
        ("gpu[-1]", "a range such as"),
        ("gpu[a-c]", "a range such as"),
        ("gpu[1,,2]", "a range such as"),
        ("gpu[1-2-3]", "a range such as"),
        ("gpu[²]", "a range such as"),
        ("gpu[8-3]", "the smaller number first"),
        ("gpu[3-08]", "both ends padded alike"),
        ("gpu[003-08]", "both ends padded alike"),
        ("gpu[1-2,2]", "gives each name once"),
        ("gpu[1-999999999]", "at most 1024"),
        ("a[1-100]b[1-100]c[1-100]", "at most 1024"),
        ("gpu[1-99999999999999999999]", "a range such as"),
    ],
)
def test_a_malformed_range_says_what_is_expected(text: str, expected: str) -> None:
    with pytest.raises(ValueError, match=re.escape(expected)):
        ranges.expand(text)


@given(LETTERS, st.integers(0, 99999), st.integers(0, 500), st.integers(0, 7), LETTERS)
def test_a_range_counts_from_low_to_high_with_its_padding(
    before: str, low: int, length: int, width: int, after: str
) -> None:
    high = low + length
    low_text, high_text = str(low).zfill(width), str(high).zfill(width)
    names = ranges.expand(f"{before}[{low_text}-{high_text}]{after}")
    numbers = [name[len(before) : len(name) - len(after)] for name in names]
    assert [int(number) for number in numbers] == list(range(low, high + 1))
    assert numbers == [str(number).zfill(width) for number in range(low, high + 1)]


@given(st.lists(st.integers(0, 9999), min_size=1, max_size=20, unique=True), LETTERS)
def test_a_list_keeps_the_order_written(numbers: list[int], before: str) -> None:
    text = f"{before}[{','.join(map(str, numbers))}]"
    assert ranges.expand(text) == tuple(f"{before}{number}" for number in numbers)


@given(st.integers(0, 20), st.integers(0, 20))
def test_two_brackets_give_every_combination_once(first: int, second: int) -> None:
    names = ranges.expand(f"r[0-{first}]n[0-{second}]")
    assert len(names) == len(set(names)) == (first + 1) * (second + 1)


@given(st.text("gpu[]-,0123456789x", max_size=30))
def test_any_text_gives_names_without_brackets_or_a_value_error(text: str) -> None:
    try:
        names = ranges.expand(text)
    except ValueError:
        return
    assert 1 <= len(names) <= ranges.MAX_MEMBERS
    assert not any(ranges.is_range(name) for name in names)


@given(st.text("abc.-_0123456789", max_size=30))
def test_a_text_without_brackets_is_itself(text: str) -> None:
    assert ranges.expand(text) == (text,)
