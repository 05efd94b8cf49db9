"""docs/architecture.md and CONTRIBUTING.md name the code as it is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
PAGES = TOP / "docs" / "architecture.md", TOP / "CONTRIBUTING.md"
PACKAGE = TOP / "src" / "envsync"
LAYERS = {path.stem for path in PACKAGE.iterdir() if path.is_dir() or path.suffix == ".py"}
MODULES = {path.stem for path in PACKAGE.rglob("*") if path.is_dir() or path.suffix == ".py"}


_DEFINED = re.compile(r"^ *(?:class|(?:async )?def) (\w+)|^ *(\w+): ", re.MULTILINE)
DEFINITIONS = {
    name
    for path in PACKAGE.rglob("*.py")
    for names in _DEFINED.findall(path.read_text())
    for name in names
}
"""The names of all classes, functions and annotated fields of the package."""


def _named(pattern: str) -> list[str]:
    """Return the names in backticks in the pages that match, each once and in order."""
    names = re.findall(r"`([^`\n]+)`", "".join(page.read_text() for page in PAGES))
    return [name for name in dict.fromkeys(names) if re.fullmatch(pattern, name)]


@pytest.mark.parametrize("name", _named(r"[a-z_]+(\.\w+)+"))
def test_module_that_a_page_names_is_in_the_package(name: str) -> None:
    """A name that begins with no layer is one of an environment's, such as `conda-meta`."""
    first, *rest = name.removeprefix("envsync.").removesuffix(".py").split(".")
    path = PACKAGE / first
    while rest and ((path / rest[0]).exists() or (path / f"{rest[0]}.py").exists()):
        path /= rest.pop(0)
    is_module = path.is_dir() or path.with_suffix(".py").is_file() or first in MODULES
    assert first not in LAYERS or (is_module and DEFINITIONS.issuperset(rest))


@pytest.mark.parametrize("name", _named(r"[A-Z][a-z]\w+(\.\w+)?|[a-z]+(_[a-z]+)+"))
def test_definition_that_a_page_names_is_in_the_package(name: str) -> None:
    assert (MODULES | DEFINITIONS).issuperset(name.split("."))
