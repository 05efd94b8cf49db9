"""What is true of every page."""

from __future__ import annotations

import re
from itertools import groupby
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
PAGES = sorted([*TOP.glob("*.md"), *TOP.glob("docs/**/*.md")])
DECISIONS = [page for page in PAGES if page.match("decisions/0*.md")]
_RULE = re.compile(r"\|(?: ?:?-+:? ?\|)+")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_link_leads_to_a_file(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#:\s]+)[^):]*\)", page.read_text())
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_index_of_the_decisions_has_each_with_its_title() -> None:
    index = (TOP / "docs" / "decisions" / "README.md").read_text()
    for page in DECISIONS:
        number, _, title = page.read_text().splitlines()[0].removeprefix("# ").partition(": ")
        assert page.name.startswith(f"{number}-")
        assert f"| [{int(number)}]({page.name}) | {title[0].upper()}{title[1:]} |" in index


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_row_is_cut_off_from_its_table(page: Path) -> None:
    """A blank line ends a table: what comes behind it is shown as bars and words."""
    lines = page.read_text().splitlines()
    for is_table, rows in groupby(lines, lambda line: line.startswith("|")):
        if is_table:
            first, second = (*rows, "")[:2]
            assert _RULE.fullmatch(second), f"no table begins with {first!r}"
