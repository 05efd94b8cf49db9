"""A name means one thing, wherever in the package it is read."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "src" / "envsync"


def test_no_two_modules_define_a_class_of_one_name() -> None:
    """Two of a name may meet in one call chain; the lesser one is qualified."""
    modules = defaultdict(list)
    for path in PACKAGE.rglob("*.py"):
        for name in re.findall(r"^class (\w+)", path.read_text(), re.MULTILINE):
            modules[name].append(str(path.relative_to(PACKAGE)))
    assert {name: places for name, places in modules.items() if len(places) > 1} == {}
