"""What several operations answer with, as values; `checked_json` checks them when they arrive.

An answer of one operation is beside it.

Paths and names are text with surrogate escapes, so that any bytes survive JSON.
"""

from __future__ import annotations

from typing import Dict, Mapping, NamedTuple, Optional, Tuple

from envsync.conda.platform_needs import Platform
from envsync.tree.manifest import Totals

KEPT = "kept"
"""The method of a version that envsync did not publish, but found there, made by hand."""
AS_SENT = ("mirror", "adopt")
"""The methods by which a version equals its source's, except for the prefix in its files."""

# Kinds of findings: those that are compared, or have a hint.
BUSY = "busy"
"""An installer is at work in the environment, or left signs of it."""
MAPPED = "mapped"
"""A process has a file of the environment mapped for writing."""
DAMAGED_RECORD = "damaged-record"
"""The record of what was published there may be lost."""
FOREIGN_OWNER = "foreign-owner"
"""The live version is another user's, and this user may not replace it."""
GROUP_OWNED = "group-owned"
"""The live version is another user's, but this user may replace it."""
SHARED = "shared"
"""envsync shared the live version, or what it keeps of the environment, with a group."""
READ_ONLY, READ_ONLY_MOUNT = "read-only", "read-only-mount"
"""A directory denies this user access by its mode; its filesystem is mounted read-only."""
MOUNT_POINT, MOUNTED_INSIDE = "mount-point", "mounted-inside"
"""The environment is a mount point; something is mounted inside it."""
MOUNTED_PREFIX = "mounted-prefix"
"""The prefix is a mount point, and has no conda yet."""
IN_THE_WAY = "in-the-way"
"""What the prefix has keeps conda from being installed there."""
NOT_A_DIRECTORY = "not-a-directory"
"""Something else is at the environment's name."""
UNSEEN = "unseen"
"""Nobody can see the processes there: an installer, or whoever uses the environment."""
STATE_ELSEWHERE = "state-elsewhere"
"""What envsync keeps is on another filesystem than the environment."""

ORIGIN_NEW, ORIGIN_RESUMED, ORIGIN_SPARE = "new", "resumed", "spare"
"""A staging tree's origin: a new directory, left by an interrupted push, or a version (or a copy
of one) that is no longer needed as it is."""


class Finding(NamedTuple):
    """Something a person should know; `blocking` if it forbids a push."""

    kind: str
    message: str
    blocking: bool = False


FINDING_HINTS: Mapping[str, str] = {
    FOREIGN_OWNER: "ask its owner to push it or to share it (`share: {group: ..., mode: write}`), "
    "or push to your own prefix",
    MOUNT_POINT: "unmount it there: an environment has to be a plain directory in `envs`",
    MOUNTED_INSIDE: "unmount it there; it can be mounted outside the environment, with a link to "
    "it inside",
}
"""The hints about kinds of findings for which the agent itself refuses as well."""


class ProcessUse(NamedTuple):
    """A process that runs from, works in, maps or has open files of an environment."""

    pid: int
    command: str
    user: str = ""
    """Whose it is, if it is another user's."""

    @property
    def label(self) -> str:
        """Its number, and whose it is if it is another user's."""
        return f"{self.pid} ({self.user})" if self.user else str(self.pid)


class DirectoryIdentity(NamedTuple):
    """Identifies a directory among those of all machines: see `agent.places.directory_identity`.

    Device and inode are text, because network filesystems use all 64 bits.
    """

    boot: str
    device: str
    inode: str
    changed_ns: int
    is_network: bool


class ToolFacts(NamedTuple):
    """A program that was found; `version` is empty if unknown."""

    name: str
    path: str
    version: str


class SourceState(NamedTuple):
    """The state of a source. `had` are the source revisions that it has had itself.

    `environment_id` identifies it to all its users, or is "" (see `places.revision_history`).
    `revision_there` is the revision as it will be published: `revision`, unless the tree is
    relocated or soft links are replaced by files. `source_revision` is recorded with it: that of
    the first source, if this is a version as it was published here, perhaps with another prefix.
    None of them is known of a source that was scanned but not hashed yet. `compiled_left_out` is as
    in `RelocationFacts`, once it is known how the tree is relocated.
    """

    path: str
    totals: Totals
    findings: Tuple[Finding, ...]
    platform: Platform
    revision: str = ""
    revision_there: str = ""
    source_revision: str = ""
    had: Tuple[str, ...] = ()
    environment_id: str = ""
    hashed_bytes: int = 0
    compiled_left_out: int = 0


class RecordFacts(NamedTuple):
    """A record, as told to the other end."""

    number: int
    revision: str
    source_revision: str
    who: str
    source: str
    when_seconds: float
    method: str
    transport: str
    totals: Totals
    kept_because: str
    environment_id: str


class RemovalFacts(NamedTuple):
    """Who removed an environment by `envsync remove`, and when."""

    who: str
    when_seconds: float


class TargetState(NamedTuple):
    """The state of a target.

    `revision` and `totals` are the live tree's, or empty if there is none. `record` is the live
    version's, whether or not it was changed since; None if there is no live version or it is not
    on record. `nonce` is in the push lock: a source that finds it at its own path is the same
    directory. `same_place_as` is another server name, under which the same command last had the
    lock, or empty. `removal` is the last thing that happened to the environment, or None.
    """

    exists: bool
    revision: str
    totals: Totals
    record: Optional[RecordFacts]
    generations: Tuple[RecordFacts, ...]
    held: Dict[str, str]
    findings: Tuple[Finding, ...]
    platform: Platform
    nonce: str
    free_bytes: int
    free_inodes: Optional[int]
    recovered: Optional[str]
    same_place_as: str = ""
    removal: Optional[RemovalFacts] = None


class PlanFacts(NamedTuple):
    """What a push has to do on a target; bytes are those of contents.

    `reused_bytes` is the part of `copy_bytes` that comes neither from the live version nor from the
    staging tree, but from `reused_from`: environments (its own name stands for earlier versions) or
    the package cache, the largest contribution first. `remove_entries` are removed from the tree
    that is built on, `removed_files` are those of the live version (see `tree.difference`).
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
    removed_files: int = 0


class StageFacts(NamedTuple):
    """A staging tree: its path, and the token that its writers must present.

    Both are empty if it was only planned. The payload has the paths of the files to send. `ruin`
    says why a push of it would be refused, or is "".
    """

    plan: PlanFacts
    tree: str
    token: str
    findings: Tuple[Finding, ...]
    payload: bytes
    ruin: str = ""
