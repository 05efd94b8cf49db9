"""The blocks of the stream."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import tracemalloc
import zlib
from collections.abc import Sequence

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from envsync.agent.wire import codec
from envsync.agent.wire.frames import FRAME_BYTES_MAX
from envsync.agent.wire.zstd_command import raw_frame
from envsync.errors import TransferFailed

HEAD = struct.Struct("<BII")
SOFT = b"the same again\n" * 5000
WAYS = (("none", 0), ("zlib", 1), ("zstd", -5), ("zstd", 3))
STREAMED = (codec.STREAMED, 3)


def decoded(stream: bytes, step: int) -> bytes:
    decoder = codec.Decoder()
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


@given(st.sampled_from(WAYS), st.binary(min_size=1, max_size=500))
def test_a_block_tells_what_it_becomes(how: tuple[str, int], content: bytes) -> None:
    block = codec.encode(*how, content)
    assert codec.content_bytes(block) == len(content)
    assert codec.content_bytes(block[: HEAD.size - 1]) == 0


@given(
    st.lists(
        st.tuples(
            st.sampled_from((*WAYS, STREAMED, (codec.STREAMED, -5))),
            st.lists(st.binary(min_size=1, max_size=500), min_size=1, max_size=3),
        )
    ),
    st.integers(1, 700),
)
def test_blocks_that_go_on_from_the_ones_before(
    parts: list[tuple[tuple[str, int], list[bytes]]], step: int
) -> None:
    """Each part by an encoder of its own, as where the effort is another one from there on."""
    stream = b""
    for how, contents in parts:
        encoder = codec.Encoder(*how)
        stream += b"".join(encoder.block(content * 3) for content in contents)
    assert decoded(stream, step) == b"".join(c * 3 for _, contents in parts for c in contents)


def test_content_of_an_earlier_block_costs_little() -> None:
    """However many blocks ago; and without that, it is nothing."""
    contents = [os.urandom(50_000) for _ in range(5)]
    encoder = codec.Encoder(*STREAMED)
    first = [encoder.block(content) for content in contents]
    again = encoder.block(contents[0])
    assert len(again) < len(first[0]) / 100
    assert decoded(b"".join((*first, again)), 1 << 20) == b"".join((*contents, contents[0]))
    with pytest.raises(TransferFailed):
        decoded(again, 1 << 20)


def test_the_largest_block_that_does_not_shrink_fits_into_a_frame() -> None:
    content = os.urandom(codec.BLOCK_BYTES_MAX)
    encoder = codec.Encoder(*STREAMED)
    blocks = [encoder.block(content[at:] + content[:at]) for at in (0, 500)]
    assert all(len(block) <= FRAME_BYTES_MAX for block in blocks)
    assert decoded(b"".join(blocks), 1 << 20) == content + content[500:] + content[:500]


@pytest.mark.parametrize("step", [1000, 1 << 20])
def test_by_the_command_where_the_module_is_missing(
    step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert shutil.which("zstd"), "install zstd"
    contents = [SOFT, os.urandom(300_000), SOFT[:1000], os.urandom(10), SOFT * 10]
    ways: Sequence[tuple[str, int]] = [("zstd", 1), ("zstd", 3), ("zlib", 1), ("none", 0), WAYS[2]]
    stream = b"".join(codec.encode(*how, c) for how, c in zip(ways, contents, strict=True))
    monkeypatch.setattr(codec, "_works", lambda _: False)
    assert decoded(stream, step) == b"".join(contents)


def test_content_that_does_not_shrink_is_sent_as_it_is() -> None:
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


def _streamed(content: bytes, size_bytes: int, window_log: int = 20) -> bytes:
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=window_log)
    machine = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    packed = machine.compress(content) + machine.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
    return HEAD.pack(4, len(packed), size_bytes) + packed


def test_a_streamed_bomb_takes_no_more_than_a_block() -> None:
    """What it has beyond what it says is no part of its block, and of the next one the first."""
    bomb = _streamed(bytes(50 << 20), 5000)
    tracemalloc.start()
    try:
        assert decoded(bomb, 1 << 20) == bytes(5000)
        assert tracemalloc.get_traced_memory()[1] < 10 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("has_module", [True, False])
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
        pytest.param(HEAD.pack(3, 100, 1000) + bytes(100), id="goes on from nothing"),
        pytest.param(HEAD.pack(4, 100, 1000) + bytes(100), id="no zstd, streamed"),
        pytest.param(HEAD.pack(4, 9 + 700, 9) + bytes(709), id="more than zstd ever adds"),
        pytest.param(_streamed(SOFT, len(SOFT) + 1), id="streamed, shorter than its content"),
        pytest.param(_streamed(SOFT, len(SOFT), window_log=24), id="a window that takes memory"),
    ],
)
def test_stream_that_breaks_its_rules_is_refused(
    stream: bytes, has_module: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codec, "_works", lambda _: has_module)
    with pytest.raises(TransferFailed):
        decoded(stream, 100_000)


@given(st.binary(max_size=3000), st.integers(1, 40))
def test_all_of_it_at_once(content: bytes, times: int) -> None:
    packed = codec.encode_all(1, content * times)
    assert codec.decode_all(packed, len(content) * times) == content * times


def test_block_that_grows_larger_than_allowed_is_refused() -> None:
    packed = codec.encode_all(1, bytes(5 << 20))
    assert len(codec.decode_all(packed, 5 << 20)) == 5 << 20
    with pytest.raises(TransferFailed):
        codec.decode_all(packed, (5 << 20) - 1)
    with pytest.raises(TransferFailed):
        codec.decode_all(packed[:-1], 5 << 20)
