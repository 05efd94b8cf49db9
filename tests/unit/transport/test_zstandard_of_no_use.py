"""Interpreters whose zstandard is there and of no use, or of less: told before anything is sent."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import zstandard

from envsync.agent.wire import codec
from envsync.agent.wire.server_operations import HEALTH, AskEnvironments
from envsync.agent.wire.target_operations import OpenTarget, Requester
from envsync.push.ends.end import LocalEnd
from envsync.push.ends.target_end import TargetEnd

CONTENT = b"the same again\n" * 500
FRAME = codec.encode(codec.ZSTD, 3, CONTENT)


@pytest.fixture(autouse=True)
def _found_out_anew() -> Iterator[None]:
    """What was found out of the module is forgotten before each test, and after it."""

    def forget() -> None:
        for known in (codec._zstandard, codec._works):
            known.cache_clear()

    forget()
    yield
    forget()


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The module is found, and cannot be loaded."""
    (tmp_path / "zstandard.py").write_text("raise SystemError('a binary of another Python')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "zstandard")


def without(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """The module as it was before it had these."""
    has = {name: getattr(zstandard, name) for name in dir(zstandard) if name not in names}
    monkeypatch.setitem(sys.modules, "zstandard", SimpleNamespace(**has))


def decoded(stream: bytes) -> bytes:
    decoder = codec.Decoder()
    try:
        return b"".join((*decoder.decode(stream), *decoder.finish()))
    finally:
        decoder.close()


def test_zstandard_that_works_is_used() -> None:
    assert codec.decodable() == codec.encodable() == ("zstd-streamed", "zstd", "zlib", "none")


def test_zstandard_is_found_without_site() -> None:
    """Without `site`: what packages ask to have run (.pth) is not run, and all the same found."""
    top = Path(codec.__file__).parents[3]
    code = (
        f"import sys; sys.path.append({os.fspath(top)!r}); from envsync.agent.wire import codec; "
        "print(*codec.decodable(), '_distutils_hack' in sys.modules)"
    )
    command = [sys.executable, "-S", "-I", "-B", "-c", code]
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    assert told.stdout.split() == ["zstd-streamed", "zstd", "zlib", "none", "False"]


def test_zstandard_that_cannot_be_loaded_is_not_used(
    broken: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    del broken
    assert codec.encodable() == ("zlib", "none")
    assert codec.decodable() == ("zstd", "zlib", "none"), "the command does"
    assert decoded(FRAME) == CONTENT
    monkeypatch.setenv("PATH", os.devnull)
    assert codec.decodable() == ("zlib", "none")


def test_zstandard_without_streaming_is_used_for_single_frames(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It undoes frames of their own, as releases before this one did."""

    class Decompressor:
        def __init__(self) -> None:
            self.decompress = zstandard.ZstdDecompressor().decompress

    without(monkeypatch, "ZstdCompressionParameters")
    monkeypatch.setattr(sys.modules["zstandard"], "ZstdDecompressor", Decompressor)
    monkeypatch.setenv("PATH", os.devnull)
    assert codec.decodable() == codec.encodable() == ("zstd", "zlib", "none")
    assert decoded(FRAME) == CONTENT


def test_zstandard_without_frame_sizes_leaves_frames_to_the_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    without(monkeypatch, "frame_content_size")
    assert codec.decodable() == ("zstd-streamed", "zstd", "zlib", "none")
    assert decoded(FRAME) == CONTENT, "by the command"
    monkeypatch.setenv("PATH", os.devnull)
    assert codec.decodable() == ("zstd-streamed", "zlib", "none")


def test_a_target_tells_before_anything_is_sent_to_it(
    broken: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del broken
    monkeypatch.setenv("PATH", os.devnull)
    (tmp_path / "envs").mkdir()
    end = LocalEnd("server2")
    target = TargetEnd(end, OpenTarget(str(tmp_path), "myenv", (), Requester("alice@server1")))
    assert target.codecs == ("zlib", "none")
    health = end.ask(HEALTH, AskEnvironments(str(tmp_path), (), {}))
    assert health.server.codecs == ("zlib", "none")
