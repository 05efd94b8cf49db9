"""What is true of every page."""

from __future__ import annotations

import re
from itertools import groupby
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
PAGES = sorted([*TOP.glob("*.md"), *TOP.glob("docs/**/*.md")])
_RULE = re.compile(r"\|(?: ?:?-+:? ?\|)+")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_row_is_cut_off_from_its_table(page: Path) -> None:
    """A blank line ends a table: what comes behind it is shown as bars and words."""
    lines = page.read_text().splitlines()
    for is_table, rows in groupby(lines, lambda line: line.startswith("|")):
        if is_table:
            first, second = (*rows, "")[:2]
            assert _RULE.fullmatch(second), f"no table begins with {first!r}"
