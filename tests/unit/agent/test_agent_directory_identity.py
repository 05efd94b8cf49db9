"""Whether two ends look at one directory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from envsync.agent.places.directory_identity import directory_identity, is_same_directory
from envsync.agent.wire.messages import DirectoryIdentity

HERE = DirectoryIdentity(boot="a", device="1", inode="2", changed_ns=3, is_network=False)
SERVED = HERE._replace(boot="b", device="9", is_network=True)


@pytest.mark.parametrize(
    ("other", "is_same"),
    [
        (HERE, True),
        (HERE._replace(changed_ns=4), True),
        (HERE._replace(device="2"), False),
        (HERE._replace(inode="4"), False),
        (HERE._replace(boot="b"), False),
        (HERE._replace(boot=""), False),
        (SERVED, True),
        (SERVED._replace(boot="a"), True),
        (SERVED._replace(changed_ns=4), False),
        (SERVED._replace(inode="4"), False),
    ],
)
def test_directories_are_the_same_on_one_kernel_or_on_one_share(
    other: DirectoryIdentity, is_same: bool
) -> None:
    """The last: a machine cloned from another has its inodes and times, and is no share."""
    assert is_same_directory(HERE, other) is is_same
    assert is_same_directory(other, HERE) is is_same


def test_without_a_boot_identity_nothing_is_taken_for_the_same() -> None:
    unknown = HERE._replace(boot="")
    assert not is_same_directory(unknown, unknown)


def test_by_whatever_path(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").symlink_to("a")
    one, other = (directory_identity(os.fsencode(tmp_path / name)) for name in "ab")
    assert one is not None
    assert other is not None
    assert is_same_directory(one, other)
    assert directory_identity(os.fsencode(tmp_path / "c")) is None
