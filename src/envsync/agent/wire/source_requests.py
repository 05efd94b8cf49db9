"""Requests to a source."""

from __future__ import annotations

from typing import NamedTuple, Tuple


class OpenSource(NamedTuple):
    """Which environment it is: `name` in `prefix`, or the prefix itself where it `is_base`;
    `local` are the paths that belong to the server."""

    prefix: str
    name: str
    local: Tuple[str, ...]
    is_base: bool = False


class InspectSource(NamedTuple):
    """`fresh`: every byte is hashed anew, whatever its file's times say."""

    fresh: bool = False


class AtPath(NamedTuple):
    """As the environment has to be at the path `there`; empty: as it is."""

    there: str = ""


class AskNonce(NamedTuple):
    """Whether a lock with this nonce stands in the source's own place."""

    nonce: str


class Remember(NamedTuple):
    """That this source has had the revision."""

    revision: str


class SendFiles(NamedTuple):
    """The files in the payload, of these sizes, as the environment has to be at `there`, for
    who undoes `codecs`."""

    sizes: Tuple[int, ...]
    codecs: Tuple[str, ...]
    there: str


class CodecStep(NamedTuple):
    """A codec and its level."""

    codec: str
    level: int


class AskSample(NamedTuple):
    """What the files in the payload, of these sizes, come to by each of `steps`; without any, by
    what `SendFiles` would do for `codecs`."""

    sizes: Tuple[int, ...]
    codecs: Tuple[str, ...]
    steps: Tuple[CodecStep, ...]


class TryCommands(NamedTuple):
    """Which of these commands gets into another server; the first that does counts."""

    commands: Tuple[Tuple[str, ...], ...]


class RunRsync(NamedTuple):
    """With these arguments, for the files in the payload."""

    argv: Tuple[str, ...]
