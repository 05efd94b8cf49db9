"""Operations that bring files' contents into the staging tree.

Where a request is `bytes`, it has the paths of some of the files to send, with a NUL between them;
none means all. The contents are streamed.
"""

from __future__ import annotations

from typing import NamedTuple, Optional, Tuple

from envsync.agent.wire.operation import Operation
from envsync.agent.wire.target_operations import SentManifest


class AskBlocks(NamedTuple):
    """Asks for the block marks of the files in the payload; if `is_sample`, for only a few, to
    see whether block-wise transfer is worthwhile."""

    is_sample: bool
    payload: bytes


class RsyncFacts(NamedTuple):
    """A server's rsync: its path and what its `--version` prints; both may be empty."""

    path: str
    version: str


class ReceiveFacts(NamedTuple):
    """What a transfer brought; `failed` are paths whose contents did not arrive intact."""

    files: int
    failed: Tuple[str, ...]


class BundleFacts(NamedTuple):
    """The path for a bundle, and size and digest of what an earlier push left there."""

    path: str
    size_bytes: int
    digest: str
    free_bytes: int


BEGIN = Operation[SentManifest, Optional[ReceiveFacts]]("transfer.begin")
"""Answers None if there was a tree to build on, and what was sent is lost."""
RECEIVE = Operation[bytes, ReceiveFacts]("transfer.receive")
BLOCKS = Operation[AskBlocks, bytes]("transfer.blocks")
PATCH = Operation[bytes, ReceiveFacts]("transfer.patch")
LOCATE_BUNDLE = Operation[None, BundleFacts]("transfer.locate_bundle")
UNPACK_BUNDLE = Operation[bytes, ReceiveFacts]("transfer.unpack_bundle")
FIND_RSYNC = Operation[None, RsyncFacts]("transfer.find_rsync")
STAMP = Operation[bytes, ReceiveFacts]("transfer.stamp")
PROBE = Operation[None, None]("transfer.probe")
FREE_BYTES = Operation[None, int]("transfer.free_bytes")
"""The free space on the filesystem that holds the environments."""
