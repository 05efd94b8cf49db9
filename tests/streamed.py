"""The modules that are streamed to servers, and what they import."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

SOURCES = Path(__file__).parents[1] / "src"
STREAMED = ("errors", "files", "texts", "tree", "conda", "agent")

# Imported inside try/except, where the interpreter happens to have them.
OPTIONAL = {"zstandard", "compression"}


def streamed_files() -> list[Path]:
    package = SOURCES / "envsync"
    files = [package / "__init__.py", package / "errors.py"]
    for name in STREAMED[1:]:
        files += sorted((package / name).rglob("*.py"))
    return files


def module_name(path: Path) -> str:
    parts = path.relative_to(SOURCES).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@functools.cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(ast.parse(path.read_bytes())))


def imported_names(path: Path) -> Iterator[str]:
    """Every module that the file imports, anywhere in it."""
    for node in nodes(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield str(node.module)


@functools.cache
def libraries() -> list[str]:
    names = {name.split(".")[0] for path in streamed_files() for name in imported_names(path)}
    return sorted(names - OPTIONAL - {"envsync"})
