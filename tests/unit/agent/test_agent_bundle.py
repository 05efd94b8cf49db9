"""The compiled modules that an agent is made of: those of the sources that are here now."""

from __future__ import annotations

import importlib.util
import marshal
import os
import py_compile
from collections.abc import Callable
from pathlib import Path
from types import CodeType

import pytest

from envsync.agent.operations import bootstrap

OLD, NEW = "answer = 1\n", "answer = 2\n"
MTIME_NS = 1_700_000_000 * 10**9


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A module, compiled beside it."""
    path = tmp_path / "module.py"
    path.write_text(OLD)
    os.utime(path, ns=(MTIME_NS, MTIME_NS))
    py_compile.compile(str(path), doraise=True)
    return path


def cached(source: Path) -> Path:
    return Path(importlib.util.cache_from_source(str(source)))


def sent(source: Path) -> tuple[object, str]:
    """What the code that would be sent answers, and what file it says that it is of."""
    code = marshal.loads(bootstrap._code("envsync.module", str(source)))
    assert isinstance(code, CodeType)
    found: dict[str, object] = {}
    exec(code, found)
    return found["answer"], code.co_filename


def test_what_is_compiled_is_not_compiled_again(source: Path) -> None:
    assert sent(source) == (1, str(source))


def edited(source: Path) -> None:
    """Of the same size, as far as a status tells."""
    source.write_text(NEW)
    os.utime(source, ns=(MTIME_NS + 10**9, MTIME_NS + 10**9))


def edited_to_another_size(source: Path) -> None:
    """And with the time that it had."""
    source.write_text(NEW + "\n")
    os.utime(source, ns=(MTIME_NS, MTIME_NS))


def compared_by_its_hash(source: Path) -> None:
    """PEP 552: where flags are set, what follows them is no time and no size, whatever it is."""
    _as_if_compiled_now(source)
    _patch(source, 4, b"\1")


def of_another_python(source: Path) -> None:
    _as_if_compiled_now(source)
    _patch(source, 0, b"\0\0")


def _as_if_compiled_now(source: Path) -> None:
    edited(source)
    _patch(source, 8, (MTIME_NS // 10**9 + 1).to_bytes(4, "little"))


def cut_short(source: Path) -> None:
    edited(source)
    cached(source).write_bytes(cached(source).read_bytes()[:7])


def gone(source: Path) -> None:
    edited(source)
    cached(source).unlink()


def _patch(source: Path, offset: int, data: bytes) -> None:
    with cached(source).open("r+b") as file:
        file.seek(offset)
        file.write(data)


@pytest.mark.parametrize(
    "change",
    [edited, edited_to_another_size, compared_by_its_hash, of_another_python, cut_short, gone],
)
def test_what_is_compiled_of_something_else_is_not_sent(
    source: Path, change: Callable[[Path], None]
) -> None:
    change(source)
    assert sent(source) == (2, "<envsync.module>")
