"""Operations about a server, and about all its environments."""

from __future__ import annotations

from typing import Dict, NamedTuple, Optional, Tuple

from envsync.agent.wire.messages import RecordFacts, ToolFacts
from envsync.agent.wire.operation import Operation
from envsync.agent.wire.target_operations import Requester
from envsync.conda.platform_needs import Platform
from envsync.tree.manifest import Totals


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


class ServerFacts(NamedTuple):
    """The answering server. `codecs` are those it can decode, the best first; `hello` has none."""

    who: str
    codecs: Tuple[str, ...]
    platform: Platform
    time_seconds: float
    python: str


class EnvironmentFacts(NamedTuple):
    """An environment as `list` shows it."""

    name: str
    revision: str = ""
    record: Optional[RecordFacts] = None
    drifted: bool = False
    totals: Totals = Totals()
    packages: int = 0
    generations: int = 0
    problem: str = ""


class ListFacts(NamedTuple):
    """All environments of a server; `time_seconds` is by its own clock."""

    environments: Tuple[EnvironmentFacts, ...]
    time_seconds: float


class SweepFacts(NamedTuple):
    """What a clean-up freed of one environment, or in a dry run would free.

    `generations` are the numbers of removed generations, `unfinished` counts trees of
    interrupted pushes. `stays` says what was kept and why, `problems` what could not be removed.
    If `locked`, which says by whom, nothing was examined; `same_place_as` is the server name that
    the holder uses, if it is the same command. `making`, in a dry run, says who makes a tree for
    the next push, which is in none of the figures.
    """

    name: str
    generations: Tuple[int, ...] = ()
    unfinished: int = 0
    size_bytes: int = 0
    stays: Tuple[str, ...] = ()
    locked: str = ""
    problems: Tuple[str, ...] = ()
    making: str = ""
    same_place_as: str = ""


class GcFacts(NamedTuple):
    """What a clean-up freed on one server."""

    environments: Tuple[SweepFacts, ...]
    cache_files: int
    cache_bytes: int


class PrefixFacts(NamedTuple):
    """conda's base directory, which may not exist. Space is where it is or would be.

    `obstacle` is what keeps `bootstrap` from installing conda there, if there is none.
    """

    path: str
    exists: bool
    has_conda: bool
    is_writable: bool
    is_read_only: bool
    is_noexec: bool
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
    `held` (nothing is live or kept, and some versions are refused), `closed` (its records are
    another user's), `busy` (published, and an installer is at work or left signs of it), `blocked`
    (something other than a directory is at the name), `unreadable` (it or its record). A push is
    refused if it is `busy` or `blocked`.
    """

    name: str
    state: str
    reason: str


class HealthFacts(NamedTuple):
    """The health of a server. `login_shell` is that shell's name.

    `sees_processes` says whether the server's /proc can be read.

    `cuda` is empty without a driver, and None if `nvidia-smi` does not answer.
    `tools` are rsync and zstd, then those that a rebuild would use, then those that it would not.
    """

    server: ServerFacts
    python_version: str
    prefix: PrefixFacts
    tools: Tuple[ToolFacts, ...]
    cuda: Optional[str]
    environments: Tuple[StandingFacts, ...]
    login_shell: str
    sees_processes: bool = True


HELLO = Operation[None, ServerFacts]("server.hello")
HEALTH = Operation[AskEnvironments, HealthFacts]("server.health")
LIST = Operation[AskEnvironments, ListFacts]("server.list")
COLLECT = Operation[Collect, GcFacts]("gc.collect")
