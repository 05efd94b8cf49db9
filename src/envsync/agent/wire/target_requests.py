"""Requests to a target."""

from __future__ import annotations

from typing import Dict, NamedTuple, Optional, Tuple

from envsync.agent.wire.messages import DirectoryIdentity


class OpenTarget(NamedTuple):
    """Opens the environment `name` in `prefix`, or the prefix itself if `is_base`.

    `local` are the paths that belong to the server, `by` is the requesting user. `keep` is how many
    earlier versions a push leaves. `command` and `server` identify its lock
    (`PushLock.of_command`); both may be empty.
    """

    prefix: str
    name: str
    local: Tuple[str, ...]
    by: str
    keep: int = 1
    is_base: bool = False
    command: str = ""
    server: str = ""


class InspectTarget(NamedTuple):
    """Asks for the target's state; with `lock`, nobody else can push until the end is closed.

    `source` identifies the source's directory, for a push. With `looks_ahead`, the target also
    begins to examine the tree that the next version will be built on.
    """

    lock: bool
    source: Optional[DirectoryIdentity] = None
    looks_ahead: bool = False


class AskReferences(NamedTuple):
    """Asks for the directories that the target has, before a manifest is sent.

    The payload names the packages of the environment. With `looks_ahead`, the target also begins
    to examine the tree that the next version will be built on.
    """

    looks_ahead: bool = False


class AskExisting(NamedTuple):
    """Asks which of these paths exist; relative ones are not looked up and count as missing."""

    paths: Tuple[str, ...]


class AskDifferences(NamedTuple):
    """Asks for the differences from the manifest in the payload, which is compressed if `packed`.

    Without a payload, from the record. `records` are those of packages that are no longer there,
    by their path (`conda.ownership.only_files`).
    """

    paths_max: int
    records: Dict[str, str]
    packed: bool = False
