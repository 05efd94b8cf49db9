"""The blocks of the stream."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import zlib
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envsync.agent import codec
from envsync.agent.zstd_command import raw_frame
from envsync.errors import TransferFailed

HEAD = struct.Struct("<BII")
SOFT = b"the same again\n" * 5000
WAYS = (("none", 0), ("zlib", 1), ("zstd", -5), ("zstd", 3))
CHAINED = (codec.CHAINED, 3)


def decoded(stream: bytes, step: int, use_module: bool = True) -> bytes:
    decoder = codec.Decoder(use_module)
    try:
        pieces = [
            piece
            for at in range(0, len(stream), step)
            for piece in decoder.decode(stream[at : at + step])
        ]
        return b"".join((*pieces, *decoder.finish()))
    finally:
        decoder.close()


@given(
    st.lists(st.tuples(st.sampled_from(WAYS), st.binary(min_size=1, max_size=500))),
    st.integers(1, 700),
)
def test_blocks_of_any_codec_in_one_stream(
    blocks: list[tuple[tuple[str, int], bytes]], step: int
) -> None:
    stream = b"".join(codec.encode(*how, content * 3) for how, content in blocks)
    assert decoded(stream, step) == b"".join(content * 3 for _, content in blocks)


@given(
    st.lists(st.tuples(st.sampled_from((*WAYS, CHAINED)), st.binary(min_size=1, max_size=500))),
    st.integers(1, 700),
)
def test_blocks_that_go_on_from_the_ones_before(
    blocks: list[tuple[tuple[str, int], bytes]], step: int
) -> None:
    contents = [content * 3 for _, content in blocks]
    stream = b"".join(
        codec.encode(*how, content, before)
        for (how, _), content, before in zip(blocks, contents, [b"", *contents], strict=False)
    )
    assert decoded(stream, step) == b"".join(contents)


def test_what_the_block_before_has_costs_little() -> None:
    content = os.urandom(50_000)
    alone, chained = (codec.encode(*CHAINED, content, before) for before in (b"", content))
    assert len(chained) < len(alone) / 100
    with pytest.raises(TransferFailed):
        decoded(chained, 1 << 20)


@pytest.mark.parametrize("step", [1000, 1 << 20])
def test_by_the_command_where_the_module_is_missing(step: int) -> None:
    assert shutil.which("zstd"), "install zstd"
    contents = [SOFT, os.urandom(300_000), SOFT[:1000], os.urandom(10), SOFT * 10]
    ways: Sequence[tuple[str, int]] = [("zstd", 1), ("zstd", 3), ("zlib", 1), ("none", 0), WAYS[2]]
    stream = b"".join(codec.encode(*how, c) for how, c in zip(ways, contents, strict=True))
    assert decoded(stream, step, use_module=False) == b"".join(contents)


def test_what_does_not_shrink_goes_as_it_is() -> None:
    content = os.urandom(100_000)
    for way in WAYS:
        assert codec.encode(*way, content) == HEAD.pack(0, len(content), len(content)) + content


@pytest.mark.parametrize("size", [1, 128 << 10, (128 << 10) + 1, 1_000_000])
def test_a_raw_frame_is_zstd(size: int) -> None:
    content = os.urandom(size)
    done = subprocess.run(
        ["zstd", "-dc"], input=raw_frame(content), capture_output=True, check=True
    )
    assert done.stdout == content


BOMB = zlib.compress(bytes(50 << 20), 9)
ZSTD_BOMB = codec.encode("zstd", 3, bytes(1 << 20))[HEAD.size :]


@pytest.mark.parametrize("use_module", [True, False])
@pytest.mark.parametrize(
    "stream",
    [
        pytest.param(HEAD.pack(9, 1, 1) + b"x", id="unknown codec"),
        pytest.param(HEAD.pack(0, 5, 4) + b"12345", id="longer than its content"),
        pytest.param(HEAD.pack(0, 4, 5) + b"1234", id="shorter than its content"),
        pytest.param(HEAD.pack(1, len(BOMB), 2 << 20) + BOMB, id="too large"),
        pytest.param(HEAD.pack(1, len(BOMB), 1 << 19) + BOMB, id="zlib bomb"),
        pytest.param(HEAD.pack(2, len(ZSTD_BOMB), 1 << 19) + ZSTD_BOMB, id="zstd bomb"),
        pytest.param(HEAD.pack(2, 100, 1000) + bytes(100), id="no zstd"),
        pytest.param(HEAD.pack(1, 100, 1000) + bytes(100), id="no zlib"),
        pytest.param(codec.encode("zlib", 1, SOFT)[:-1], id="cut short"),
    ],
)
def test_a_stream_that_breaks_its_rules(stream: bytes, use_module: bool) -> None:
    with pytest.raises(TransferFailed):
        decoded(stream, 100_000, use_module)


@given(st.binary(max_size=3000), st.integers(1, 40))
def test_all_of_it_at_once(content: bytes, times: int) -> None:
    packed = codec.encode_all("zstd", 1, content * times)
    assert codec.decode_all(packed, len(content) * times) == content * times


def test_what_becomes_larger_than_it_may_is_refused() -> None:
    packed = codec.encode_all("zstd", 1, bytes(5 << 20))
    assert len(codec.decode_all(packed, 5 << 20)) == 5 << 20
    with pytest.raises(TransferFailed):
        codec.decode_all(packed, (5 << 20) - 1)
    with pytest.raises(TransferFailed):
        codec.decode_all(packed[:-1], 5 << 20)
