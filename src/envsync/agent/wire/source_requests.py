"""Requests to a source."""

from __future__ import annotations

from typing import NamedTuple, Tuple


class OpenSource(NamedTuple):
    """Opens the environment `name` in `prefix`, or the prefix itself if `is_base`.

    `local` are the paths that belong to the server.
    """

    prefix: str
    name: str
    local: Tuple[str, ...]
    is_base: bool = False


class InspectSource(NamedTuple):
    """Asks for the source's state; with `fresh`, every byte is hashed anew."""

    fresh: bool = False


class AtPath(NamedTuple):
    """Asks about the environment as it has to be at the path `there`; empty means as it is."""

    there: str = ""


class AskNonce(NamedTuple):
    """Asks whether there is a lock with this nonce at the source's own path."""

    nonce: str


class Remember(NamedTuple):
    """Asks to note that this source has had the revision."""

    revision: str


class SendFiles(NamedTuple):
    """Asks for the files in the payload, of these sizes, as they have to be at `there`.

    The receiver can decode `codecs`.
    """

    sizes: Tuple[int, ...]
    codecs: Tuple[str, ...]
    there: str


class CodecStep(NamedTuple):
    """A codec and its level."""

    codec: str
    level: int


class AskSample(NamedTuple):
    """Asks how well the files in the payload, of these sizes, compress with each of `steps`.

    Without any, with the one that `SendFiles` would use for `codecs`.
    """

    sizes: Tuple[int, ...]
    codecs: Tuple[str, ...]
    steps: Tuple[CodecStep, ...]


class TryCommands(NamedTuple):
    """Asks for the first of these commands that connects to another server."""

    commands: Tuple[Tuple[str, ...], ...]


class RunRsync(NamedTuple):
    """Asks to run rsync with these arguments, for the files in the payload."""

    argv: Tuple[str, ...]
