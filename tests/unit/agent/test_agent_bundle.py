"""What an agent is made of: the modules of the sources that are here now, and nobody else's."""

from __future__ import annotations

import importlib.util
import marshal
import os
import py_compile
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType

import pytest

from envsync.agent.operations import bundle

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
    code = marshal.loads(bundle._code("envsync.module", str(source)))
    assert isinstance(code, CodeType)
    found: dict[str, object] = {}
    exec(code, found)
    return found["answer"], code.co_filename


def test_bytecode_of_the_source_is_sent_as_it_is(source: Path) -> None:
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
def test_bytecode_of_another_source_is_not_sent(
    source: Path, change: Callable[[Path], None]
) -> None:
    change(source)
    assert sent(source) == (2, "<envsync.module>")


@pytest.fixture
def remembered(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file in the user's cache, of a run that has just ended; the agent is that one module."""

    def modules() -> Iterator[tuple[str, tuple[bool, str]]]:
        yield "envsync.module", (False, str(source))

    monkeypatch.setattr(bundle, "_modules", modules)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    bundled(monkeypatch)
    [file] = (tmp_path / "cache/envsync").iterdir()
    return file


def bundled(monkeypatch: pytest.MonkeyPatch) -> bytes:
    """What a run that begins now would send; its module's code, marshalled."""
    monkeypatch.setattr(bundle, "_made", {})
    sent = bundle.modules(bundle.OUR_MAGIC)
    is_compiled, size = struct.unpack_from("<BI", sent)
    assert (is_compiled, size) == (True, len(sent) - 5)
    [(is_package, code)] = marshal.loads(zlib.decompress(sent[5:])).values()
    assert not is_package
    assert isinstance(code, bytes)
    return code


def is_made_again(monkeypatch: pytest.MonkeyPatch) -> bool:
    made = []
    make = bundle._bundle

    def noted(found: bundle.Modules, is_compiled: bool) -> bytes:
        made.append(found)
        return make(found, is_compiled)

    monkeypatch.setattr(bundle, "_bundle", noted)
    assert bundled(monkeypatch)
    return bool(made)


def test_cached_bundle_is_used_by_the_next_run(
    remembered: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not is_made_again(monkeypatch)


def edited_without_a_trace(source: Path) -> None:
    """But for its ctime: of the same size and mtime, as of a package whose files have one time."""
    source.write_text(NEW)
    os.utime(source, ns=(MTIME_NS, MTIME_NS))
    cached(source).unlink()


@pytest.mark.parametrize("change", [edited, edited_to_another_size, edited_without_a_trace])
def test_cached_bundle_of_another_source_is_not_used(
    remembered: Path, source: Path, change: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    change(source)
    assert bundled(monkeypatch) == bundle._code("envsync.module", str(source))


def damaged(file: Path) -> None:
    *content, last = file.read_bytes()
    file.write_bytes(bytes([*content, last ^ 1]))


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def writable_by_others(file: Path) -> None:
    file.chmod(0o622)


@pytest.mark.parametrize("change", [damaged, cut, writable_by_others, Path.unlink])
def test_cached_bundle_that_may_be_damaged_is_made_again(
    remembered: Path, change: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    change(remembered)
    assert is_made_again(monkeypatch)


def test_cached_bundle_of_another_user_is_made_again(
    remembered: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where several users have one cache directory."""
    user_id = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: user_id + 1)
    assert is_made_again(monkeypatch)


def test_bundle_is_made_each_time_without_a_cache(
    source: Path, remembered: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null/cache")
    assert bundled(monkeypatch) == bundle._code("envsync.module", str(source))
