"""The messages between two ends, as values; checked where they come in (`checked_json`).

Paths and names are text with surrogate escapes, so that any bytes survive JSON.
"""

from __future__ import annotations

from typing import Dict, NamedTuple, Optional, Sequence, Tuple

KEPT = "kept"
"""The method of a version that envsync did not publish: it was made by hand there."""
AS_SENT = ("mirror", "adopt")
"""The methods by which a version is its source's, but for paths that name another prefix."""
FOREIGN_OWNER = "foreign-owner"
"""A kind of finding: another user's version stands there, which this one may not replace."""
GROUP_OWNED = "group-owned"
"""A kind of finding: another user's version stands there, which this one may replace."""
SHARED = "shared"
"""A kind of finding: envsync let a group use what stands there, or what it keeps of that."""
DAMAGED_RECORD = "damaged-record"
"""A kind of finding: what was published there may not be known any more."""

ORIGIN_NEW, ORIGIN_RESUMED, ORIGIN_SPARE = "new", "resumed", "spare"
"""How a staging tree came to be: made, left by a push that ended early, or a version (or a copy
of one) that nobody needs as it is."""


class Finding(NamedTuple):
    """Something a person should know; `blocking` where it forbids a push."""

    kind: str
    message: str
    blocking: bool = False


def listed(names: Sequence[str], shown: int) -> str:
    """Names as a message has them: `a, b and 3 more`."""
    more = " and %d more" % (len(names) - shown) if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


class PlatformFacts(NamedTuple):
    system: str
    machine: str
    libc: str
    libc_version: str


class ProcessUse(NamedTuple):
    """A process of this user that runs from an environment, stands in it, or has its files open."""

    pid: int
    command: str


class DirectoryIdentity(NamedTuple):
    """What tells a directory from every other on any machine: `agent.places.directory_identity`.

    Device and inode as text: the network has numbers of 64 bits.
    """

    boot: str
    device: str
    inode: str
    changed_ns: int
    is_network: bool


class ServerFacts(NamedTuple):
    """Who and what answers. `codecs` are what it can undo, the best first; `hello` names none."""

    who: str
    codecs: Tuple[str, ...]
    platform: PlatformFacts
    time_seconds: float
    python: str


class TotalsFacts(NamedTuple):
    entries: int
    files: int
    size_bytes: int


class SourceState(NamedTuple):
    """What a source is. `had` are the source revisions that it has had itself.

    `revision_there` is that of the tree as it will be published: `revision` itself, but for
    a relocation. `source_revision` goes on record with it: that of the first source, where this
    is the version as it was published here, with another prefix in it perhaps.
    """

    path: str
    revision: str
    revision_there: str
    source_revision: str
    totals: TotalsFacts
    had: Tuple[str, ...]
    findings: Tuple[Finding, ...]
    platform: PlatformFacts
    hashed_bytes: int


class RelocationFacts(NamedTuple):
    """What a source's tree becomes at another place.

    `problems` say which files cannot be had there and why, `left` which name the old place
    and stay as they are, because it does not matter.
    """

    revision: str
    totals: TotalsFacts
    problems: Tuple[str, ...]
    left: Tuple[str, ...]


class RecordFacts(NamedTuple):
    """A record, as the other end sees it."""

    number: int
    revision: str
    source_revision: str
    who: str
    source: str
    when_seconds: float
    method: str
    transport: str
    totals: TotalsFacts
    kept_because: str


class TargetState(NamedTuple):
    """What stands on a target.

    `revision` and `totals` are of the live tree, empty where there is none. `record` is
    that of the version which was published to the name, whether or not it was changed
    since; None where envsync never published there. `nonce` is what the push lock says
    there: a source that finds it in its own place is the same directory. `same_place_as` is
    the name under which the same command had the lock last; empty where it never did.
    """

    path: str
    exists: bool
    revision: str
    totals: TotalsFacts
    record: Optional[RecordFacts]
    generations: Tuple[RecordFacts, ...]
    held: Dict[str, str]
    findings: Tuple[Finding, ...]
    platform: PlatformFacts
    nonce: str
    free_bytes: int
    free_inodes: Optional[int]
    filesystem: str
    recovered: Optional[str]
    hashed_bytes: int
    same_place_as: str = ""


class PlanFacts(NamedTuple):
    """What a push has to do on a target; bytes are of contents.

    `reused_bytes` of what is copied come from elsewhere than the environment's own trees:
    from the environments (or the package cache) of `reused_from`, those that give most first.
    """

    origin: str
    fetch_files: int
    fetch_bytes: int
    copy_files: int
    copy_bytes: int
    remove_entries: int
    new_bytes: int
    packages: Tuple[str, ...]
    reused_bytes: int
    reused_from: Tuple[str, ...]


class StageFacts(NamedTuple):
    """A staging tree: its path, and the token that its writers have to present."""

    plan: PlanFacts
    tree: str
    token: str
    findings: Tuple[Finding, ...]


class SampleFacts(NamedTuple):
    """Some of what would be sent: its bytes, and for each way to compress it what it becomes
    and how long that takes."""

    content_bytes: int
    packed_bytes: Tuple[int, ...]
    seconds: Tuple[float, ...]


class RebuiltFacts(NamedTuple):
    """An environment that a target's own tools made, taken into the staging tree."""

    plan: PlanFacts
    totals: TotalsFacts
    findings: Tuple[Finding, ...]


class BundleFacts(NamedTuple):
    """Where a bundle goes, and what an earlier push left of one."""

    path: str
    size_bytes: int
    digest: str
    free_bytes: int


class ReceiveFacts(NamedTuple):
    """What a transfer brought; `failed` are paths whose contents did not come right."""

    files: int
    size_bytes: int
    failed: Tuple[str, ...]


class DifferenceFacts(NamedTuple):
    """What differs between two versions: packages first, then counts, then paths.

    `paths` are prefixed with "+", "-" or "~" and a blank; at most as many as asked for.
    """

    packages: Tuple[str, ...]
    groups: Tuple[str, ...]
    paths: Tuple[str, ...]
    added: int
    removed: int
    changed: int


class VerifyFacts(NamedTuple):
    """A rehash of every byte against the record.

    `unshared` are paths that the group of a shared environment cannot use as it should.
    """

    revision: str
    record: Optional[RecordFacts]
    totals: TotalsFacts
    damaged: Tuple[str, ...]
    missing: Tuple[str, ...]
    unexpected: Tuple[str, ...]
    unshared: Tuple[str, ...]


class EnvironmentFacts(NamedTuple):
    """An environment as `list` shows it."""

    name: str
    revision: str
    record: Optional[RecordFacts]
    drifted: bool
    totals: TotalsFacts
    packages: int
    generations: int
    problem: str


class PublishFacts(NamedTuple):
    """A version that stands there now; `wants_spare` where nothing is left that the next push
    can be built on."""

    record: RecordFacts
    wants_spare: bool


class SweepFacts(NamedTuple):
    """What a clean-up freed of one environment, or in a dry run would free.

    `generations` are the numbers of those that went, `unfinished` counts trees of pushes
    that were interrupted. `stays` says what was left and why; `locked` who works there, so
    that nothing was looked at, and `same_place_as` by which name, where that is the same command;
    `problems` what resisted; `making`, in a dry run, who makes a tree for the next push, which is
    in none of the figures.
    """

    name: str
    generations: Tuple[int, ...]
    unfinished: int
    size_bytes: int
    stays: Tuple[str, ...]
    locked: str
    problems: Tuple[str, ...]
    making: str = ""
    same_place_as: str = ""


class GcFacts(NamedTuple):
    """What a clean-up freed on one server."""

    environments: Tuple[SweepFacts, ...]
    cache_files: int
    cache_bytes: int


class ListFacts(NamedTuple):
    """All environments of a server; `time_seconds` is by its own clock."""

    environments: Tuple[EnvironmentFacts, ...]
    time_seconds: float
