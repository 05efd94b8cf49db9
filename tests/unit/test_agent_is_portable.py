"""What is streamed to servers runs there: on any Python from 3.8 on, with nothing installed."""

from __future__ import annotations

import ast
import functools
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pythons import NEWEST, OLDEST, REQUIRED, interpreters

SOURCES = Path(__file__).parents[2] / "src"
STREAMED = ("errors", "files", "tree", "conda", "agent")

# Imported inside try/except, where the interpreter happens to have them.
OPTIONAL = {"zstandard", "compression"}

# Methods newer than Python 3.8, which vermin cannot tell where the type is not obvious.
TOO_NEW_METHODS = {"removeprefix", "removesuffix", "bit_count", "is_relative_to", "readlink"}

PROGRAM = """
import importlib, importlib.util, json, sys
sources, modules, libraries = json.load(sys.stdin)
sys.path.insert(0, sources)
for name in modules:
    importlib.import_module(name)
missing = [name for name in libraries if importlib.util.find_spec(name) is None]
if missing:
    sys.exit("not in this Python: %s" % ", ".join(missing))
"""


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


@pytest.mark.parametrize("version", interpreters())
def test_imports_on(version: str) -> None:
    """All modules import, with warnings as errors and without site-packages."""
    request = json.dumps([str(SOURCES), [module_name(p) for p in streamed_files()], libraries()])
    answer = subprocess.run(
        [interpreters()[version], "-I", "-S", "-B", "-W", "error", "-c", PROGRAM],
        input=request,
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, f"Python {version}:\n{answer.stderr}"


def test_oldest_and_newest_python_are_here() -> None:
    """In CI (ENVSYNC_REQUIRE=pythons) the range of versions has to be covered."""
    found = {tuple(int(part) for part in version.split(".")[:2]) for version in interpreters()}
    assert found, "no Python at all"
    if REQUIRED:
        assert {OLDEST, NEWEST} <= found, f"found only {', '.join(interpreters())}"


def test_imports_only_the_standard_library() -> None:
    ours = tuple(f"envsync.{name}" for name in STREAMED)
    for path in streamed_files():
        for name in imported_names(path):
            if name.split(".")[0] == "envsync":
                is_sent = name == "envsync" or name.startswith(ours)
                assert is_sent, f"{path}: {name} does not go to servers"
            else:
                assert name.split(".")[0] in sys.stdlib_module_names | OPTIONAL, f"{path}: {name}"


def test_uses_no_method_that_python_3_8_lacks() -> None:
    used = [
        f"{path}:{node.lineno}: .{node.attr}"
        for path in streamed_files()
        for node in nodes(path)
        if isinstance(node, ast.Attribute) and not _is_of_os(node)
        if node.attr in TOO_NEW_METHODS
    ]
    assert used == []


def test_evaluates_no_annotation() -> None:
    """`list[int]` and `X | None` are syntax errors of a kind in 3.8, unless postponed."""
    kinds = (ast.FunctionDef, ast.AnnAssign)
    evaluating = [
        path
        for path in streamed_files()
        if any(isinstance(node, kinds) for node in nodes(path))
        and "__future__" not in set(imported_names(path))
    ]
    assert evaluating == []


def _is_of_os(node: ast.Attribute) -> bool:
    return isinstance(node.value, ast.Name) and node.value.id == "os"


def test_it_starts_without_what_it_seldom_needs() -> None:
    """Each costs some 5 ms at each start, where a look at 60,000 entries takes 100."""
    program = f"""if True:
        import sys
        sys.path.append({str(SOURCES)!r})
        import envsync.agent.operations.process
        print(*sys.modules)
    """
    bare = [sys.executable, "-S", "-I", "-c", program]
    started = subprocess.run(bare, check=True, capture_output=True, text=True)
    assert not {"dataclasses", "importlib.abc", "inspect", "subprocess"} & {*started.stdout.split()}
