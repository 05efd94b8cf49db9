"""What is streamed to servers keeps to Python 3.8 and its standard library, by its source code."""

from __future__ import annotations

import ast
import subprocess
import sys

from tests.streamed import OPTIONAL, SOURCES, STREAMED, imported_names, nodes, streamed_files

# Methods newer than Python 3.8, which vermin cannot tell where the type is not obvious.
TOO_NEW_METHODS = {"removeprefix", "removesuffix", "bit_count", "is_relative_to", "readlink"}


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


def test_agent_starts_without_modules_that_it_seldom_needs() -> None:
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
