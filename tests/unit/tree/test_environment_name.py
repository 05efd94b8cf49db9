"""Which names an environment can have."""

from __future__ import annotations

import pytest

from envsync.tree.environment_name import is_environment_name


@pytest.mark.parametrize(
    "name", ["myenv", "my env", "py3.11", "a", "_x", "Ünïcode", "x" * 200, "a-b", "test~1", "BASE"]
)
def test_can_be_an_environment(name: str) -> None:
    assert is_environment_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "", "base", ".", "..", ".envsync", ".hidden", "-rf", "a/b", "/a", "../a", "a\nb", "a\0b",
        "a\tb", "\x1b[31m", "\udcff", "x" * 201, "ü" * 101, "\u202egnp",
    ],
)  # fmt: skip
def test_cannot_be_an_environment(name: str) -> None:
    assert not is_environment_name(name)
