"""The decoders of foreign bytes over all inputs that fuzzing found to matter (`bench.fuzz`)."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.fuzz.decoders import DECODERS

CORPUS = Path(__file__).parent / "corpus"
INPUTS = sorted(path for path in CORPUS.rglob("*") if path.is_file())


@pytest.mark.parametrize("name", DECODERS)
def test_every_input_ends_as_documented(name: str) -> None:
    """Also those that were found for another decoder."""
    for path in INPUTS:
        DECODERS[name](path.read_bytes())


@st.composite
def mutations(draw: st.DrawFn) -> bytes:
    """An input of the corpus, damaged in a few places."""
    data = bytearray(draw(st.sampled_from(INPUTS)).read_bytes()[:4096])
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        data[at : at + draw(st.integers(0, 8))] = draw(st.binary(max_size=8))
    return bytes(data)


@pytest.mark.parametrize("name", DECODERS)
def test_damaged_inputs_end_as_documented(name: str) -> None:
    @given(mutations())
    def check(data: bytes) -> None:
        DECODERS[name](data)

    check()
