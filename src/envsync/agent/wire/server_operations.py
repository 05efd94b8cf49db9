"""Operations about a server, and about all its environments."""

from __future__ import annotations

from typing import Dict, NamedTuple, Optional, Tuple

from envsync.agent.wire.messages import GcFacts, ListFacts, ServerFacts, ToolFacts
from envsync.agent.wire.operation import Operation
from envsync.agent.wire.target_operations import Requester


class AskEnvironments(NamedTuple):
    """Asks for the environments of `prefix`.

    `local` are the paths that belong to the server; `local_of` has those of each environment in the
    inventory. For any other, those with which its live version was published count as well.
    """

    prefix: str
    local: Tuple[str, ...]
    local_of: Dict[str, Tuple[str, ...]]


class Collect(NamedTuple):
    """Asks to free what is no longer needed.

    `keep_of` and `local_of` are for the environments in the inventory. For any other, its records
    say what its pushes asked for; `keep` counts where they do not.
    """

    prefix: str
    requester: Requester
    keep: int
    keep_of: Dict[str, int]
    local: Tuple[str, ...]
    local_of: Dict[str, Tuple[str, ...]]
    drifted: bool
    dry_run: bool


class PrefixFacts(NamedTuple):
    """conda's base directory, which may not exist. Space is where it is or would be.

    `obstacle` is what keeps `bootstrap` from installing conda there, if there is none.
    """

    path: str
    exists: bool
    has_conda: bool
    is_writable: bool
    is_read_only: bool
    owner: str
    filesystem: str
    free_bytes: int
    free_inodes: Optional[int]
    obstacle: str


class StandingFacts(NamedTuple):
    """An environment on the server: `state` is one word, `reason` explains what is not well.

    `unpublished` (envsync never published it), `published`, `changed` (by hand, since it was
    published), `interrupted` (a switch or its removal was cut short), `locked` (a push is under
    way), `missing` (nothing is live, but versions are kept), `removed` (the same, on purpose),
    `closed` (its records are another user's), `busy` (published, and an installer is at work or
    left signs of it), `blocked` (something other than a directory is at the name), `unreadable` (it
    or its record). A push is refused if it is `busy` or `blocked`.
    """

    name: str
    state: str
    reason: str


class HealthFacts(NamedTuple):
    """The health of a server. `login_shell` is that shell's name.

    `tools` are rsync and zstd, then those that a rebuild would use, then those that it would not.
    """

    server: ServerFacts
    python_version: str
    prefix: PrefixFacts
    tools: Tuple[ToolFacts, ...]
    cuda: str
    environments: Tuple[StandingFacts, ...]
    login_shell: str


HELLO = Operation[None, ServerFacts]("server.hello")
HEALTH = Operation[AskEnvironments, HealthFacts]("server.health")
LIST = Operation[AskEnvironments, ListFacts]("server.list")
COLLECT = Operation[Collect, GcFacts]("gc.collect")
