"""Operations on a source."""

from __future__ import annotations

from typing import NamedTuple, Optional, Tuple

from envsync.agent.wire.messages import DirectoryIdentity, SourceState
from envsync.agent.wire.operation import Operation
from envsync.tree.manifest import Totals


class OpenSource(NamedTuple):
    """Opens the environment `name` in `prefix`, or the prefix itself if that is `base`.

    `local` are the paths that belong to the server.
    """

    prefix: str
    name: str
    local: Tuple[str, ...]


class InspectSource(NamedTuple):
    """Asks for the source's state; with `fresh`, every byte is hashed anew.

    `target_path` is where the environment will be on a target, if that is another path than here.
    """

    fresh: bool = False
    target_path: str = ""


class AskManifest(NamedTuple):
    """Asks for the manifest of the environment as it has to be at `target_path`.

    The receiver has the directories of the references in the payload.
    """

    target_path: str
    payload: bytes = b""


class SendFiles(NamedTuple):
    """Asks for the files in the payload, of these sizes, as they have to be at `target_path`.

    The receiver can decode `codecs`.
    """

    sizes: Tuple[int, ...]
    codecs: Tuple[str, ...]
    target_path: str
    payload: bytes


class CodecStep(NamedTuple):
    codec: str
    level: int


class AskSample(NamedTuple):
    """Asks what the files in the payload, of these sizes, as they have to be at `target_path`, come
    to on the wire with each of `steps`.

    Without any, with the one that `SendFiles` would use for `codecs`.
    """

    sizes: Tuple[int, ...]
    codecs: Tuple[str, ...]
    steps: Tuple[CodecStep, ...]
    target_path: str
    payload: bytes


class RunRsync(NamedTuple):
    """Asks to run rsync with these arguments, for the files in the payload."""

    argv: Tuple[str, ...]
    payload: bytes


class SourceOpened(NamedTuple):
    """An opened source: `identity` is None if there is no such environment.

    `stands_at` is its path with symlinks resolved (see `SourcePaths`).
    """

    identity: Optional[DirectoryIdentity]
    stands_at: str


class OutsidePath(NamedTuple):
    """A path that something in the environment leads to, or of a file that leads into it.

    It has surrogate escapes; `message` describes it to people, and `if_missing` goes on with what
    follows from it where there is no such path.
    """

    path: str
    message: str
    if_missing: str = ""


class GlibcFacts(NamedTuple):
    """The file that needs the newest glibc, and that version, such as `(2, 34)`; empty if none."""

    path: str
    version: Tuple[int, ...]


class ReachFacts(NamedTuple):
    """The index of the command that connected, or -1 and the `reason` why the last one did not."""

    which: int
    reason: str


class RsyncEnded(NamedTuple):
    exit_code: int
    stderr: str


class RelocationFacts(NamedTuple):
    """What a source's tree becomes at another path.

    `problems` says which files cannot be relocated and why, which forbids the push. `left` are
    files that cannot be rewritten and go on naming the old path, which does not forbid it.
    `compiled_left_out` counts the bytecode of rewritten modules, which is not sent.
    """

    revision: str
    totals: Totals
    problems: Tuple[str, ...]
    left: Tuple[str, ...]
    compiled_left_out: int


class SampleFacts(NamedTuple):
    """What files come to on the wire with each codec and level, and the seconds that compressing
    them takes; of many, it is an estimate from a sample."""

    wire_bytes: Tuple[int, ...]
    seconds: Tuple[float, ...]


OPEN_SOURCE = Operation[OpenSource, SourceOpened]("source.open")
INSPECT_SOURCE = Operation[InspectSource, SourceState]("source.inspect")
CONFIRM_SOURCE = Operation[None, bool]("source.confirm")
SOURCE_MANIFEST = Operation[AskManifest, bytes]("source.manifest")
SOURCE_PACKAGES = Operation[None, bytes]("source.packages")
"""The paths by which a target tells whether it has packages of this environment."""
RELOCATION = Operation[str, RelocationFacts]("source.relocation")
"""What the environment becomes at that path."""
OUTSIDE_PATHS = Operation[str, Tuple[OutsidePath, ...]]("source.outside_paths")
"""What leads out of the environment as it has to be at that path; "" means as it is."""
FILES_WITH_CREDENTIALS = Operation[None, Tuple[str, ...]]("source.files_with_credentials")
NEWEST_GLIBC = Operation[bool, GlibcFacts]("source.newest_glibc")
"""The request says whether files in `site-packages` count."""
SEES_NONCE = Operation[str, bool]("source.sees_nonce")
"""Whether there is a lock with this nonce at the source's own path."""
REMEMBER_REVISION = Operation[str, str]("source.remember_revision")
"""Notes that this source has had the revision; answers why it could not be noted, or ""."""
REQUIRE_READABLE = Operation[bytes, None]("source.require_readable")
SEND_FILES = Operation[SendFiles, None]("source.send")
"""Streams the contents, as encoded blocks."""
REACH = Operation[Tuple[Tuple[str, ...], ...], ReachFacts]("source.reach")
"""Tries these commands, until one connects to another server."""
RUN_RSYNC = Operation[RunRsync, RsyncEnded]("source.run_rsync")
"""Streams what rsync prints."""
SAMPLE = Operation[AskSample, SampleFacts]("source.sample")
