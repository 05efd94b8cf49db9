"""What is streamed to servers keeps to Python 3.8 and its standard library, by its source code."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.streamed import OPTIONAL, SOURCES, STREAMED, imported_names, nodes, streamed_files

# Methods newer than Python 3.8, which vermin cannot tell where the type is not obvious.
TOO_NEW_METHODS = {"removeprefix", "removesuffix", "bit_count", "is_relative_to", "readlink"}

# What `os` and the like lack if the interpreter was built against the C library of CentOS 6 or 7,
# as conda's often are, wherever they run.
OF_THE_BUILD = {
    "MFD_CLOEXEC",
    "O_PATH",
    "O_TMPFILE",
    "SEEK_DATA",
    "SEEK_HOLE",
    "TCP_USER_TIMEOUT",
    "close_range",
    "copy_file_range",
    "eventfd",
    "getrandom",
    "memfd_create",
    "pidfd_open",
    "pidfd_send_signal",
    "preadv2",
    "pwritev2",
    "setns",
    "splice",
    "statx",
    "unshare",
}


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
        if _names_one_of(path, TOO_NEW_METHODS)
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


def test_uses_nothing_that_an_interpreter_built_on_an_old_system_lacks() -> None:
    """Nor does the command: it runs in a conda environment, too."""
    for path in sorted((SOURCES / "envsync").rglob("*.py")):
        if not _names_one_of(path, OF_THE_BUILD):
            continue
        expected = {id(below) for node in nodes(path) for below in _where_it_may_lack(node)}
        used = {
            f"{path}:{node.lineno}: .{node.attr}"
            for node in nodes(path)
            if isinstance(node, ast.Attribute) and node.attr in OF_THE_BUILD
            if id(node) not in expected
        }
        assert used == set()


def test_constants_have_the_same_values_where_the_interpreter_lacks_them() -> None:
    program = f"""if True:
        import os, sys
        sys.path.append({str(SOURCES)!r})
        names = ("O_PATH", "SEEK_DATA", "SEEK_HOLE")
        values = [os.__dict__.pop(name) for name in names]
        from envsync.agent.server import linux_constants
        assert values == [getattr(linux_constants, name) for name in names]
    """
    subprocess.run([sys.executable, "-S", "-I", "-c", program], check=True)


def _names_one_of(path: Path, names: set[str]) -> bool:
    """Whether the file is worth parsing, which takes a hundred times as long as this."""
    text = path.read_text(encoding="utf-8")
    return any(f".{name}" in text for name in names)


def _where_it_may_lack(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what is below a `try` whose handlers expect an AttributeError."""
    if isinstance(node, ast.Try) and "AttributeError" in {
        name.id
        for handler in node.handlers
        if handler.type is not None
        for name in ast.walk(handler.type)
        if isinstance(name, ast.Name)
    }:
        for statement in node.body:
            yield from ast.walk(statement)


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
