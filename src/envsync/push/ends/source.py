"""A source: the environment being pushed, on this machine or another server."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Container, Sequence
from contextlib import AbstractContextManager
from typing import ClassVar, NamedTuple

from envsync.agent.wire.messages import Finding, SourceState
from envsync.agent.wire.rebuild_operations import REQUIREMENTS
from envsync.agent.wire.source_operations import (
    FILES_WITH_CREDENTIALS,
    NEWEST_GLIBC,
    OUTSIDE_PATHS,
    RELOCATION,
    REQUIRE_READABLE,
    SAMPLE,
    SOURCE_PACKAGES,
    AskSample,
    CodecStep,
    OutsidePath,
    RelocationFacts,
    SampleFacts,
)
from envsync.conda.requirements import Requirements
from envsync.errors import AgentFailed, PreflightRefused, listed
from envsync.push.ends.source_look import SourceLook
from envsync.transport.job import Contents, Item, Supply
from envsync.tree.manifest import Manifest

_PATHS_SHOWN = 12


class Outlined(NamedTuple):
    """A source that is still being hashed: its state, and its manifest without contents."""

    state: SourceState
    manifest: Manifest


class Source(ABC):
    """The environment being pushed, as it has to be for one target.

    Contract: safe to share between threads. The source is inspected once for all pushes of a
    command: all objects that `at` returns share one `look`, and what is asked once for each
    version. Revisions are the source's own, at whatever path: relocation makes no other version.
    Every method but `at` and `close` may raise the `EnvsyncError` that ended the source's agent.
    `manifest` and `items` inspect the source if nobody has; `rewritten` must be called after that.
    Data from another server is accepted only if it agrees with its revision.
    """

    is_here: ClassVar[bool]
    """Whether the source is on this machine."""

    def __init__(self, look: SourceLook, target_path: str = "") -> None:
        """`look` is what was found at the source's own path. `target_path` is the environment's
        path on the target; empty if it is sent unchanged.
        """
        self.look = look
        self.target_path = target_path

    @abstractmethod
    def at(self, target_path: str) -> Source:
        """Return this source for a target where the environment will be at `target_path`.

        If no file of it can name another path, it is sent unchanged; otherwise its answers are
        those for `target_path`. Makes no request.
        """

    @abstractmethod
    def outline(self) -> Outlined | None:
        """Return what can be sent before the files are hashed; None if they are, or if unknown.

        The outline has the files as they are on the source: those that relocation changes are sent
        once more.
        """

    @abstractmethod
    def hashing_while_sent(self) -> AbstractContextManager[Contents, bool | None]:
        """Let the reader of these `contents` hash the files; the look waits until the block ends.

        Like the outline's, the contents are as they are on the source. If several pushes read the
        source, contents are read as usual, so that no push delays the others.
        """

    @abstractmethod
    def manifest(self, known: bytes) -> bytes:
        """Return the manifest for a target that has the directories of the references `known`."""

    @abstractmethod
    def items(self, paths: Sequence[bytes]) -> Collection[Item]:
        """Return the files at these paths with their sizes in bytes, from the manifest.

        Raises `AgentFailed` for a path that is not a file of the manifest or is named twice.
        """

    @abstractmethod
    def rewritten(self) -> Container[bytes]:
        """Return the files whose contents below `Supply.path` are not those for the target."""

    @property
    @abstractmethod
    def supply(self) -> Supply:
        """How the contents of the files are obtained. Each push gets its own."""

    @abstractmethod
    def close(self) -> None:
        """End the source's agent, for all pushes. May be called from any thread, more than once."""

    def mirrored(self, state: SourceState) -> SourceState:
        """Return `state` as it will be on the target. Raises `PreflightRefused` if it cannot be."""
        if not self.target_path:
            return state
        facts = self.relocation()
        if facts.problems:
            count = len(facts.problems)
            more = (f"and {count - _PATHS_SHOWN} more",) if count > _PATHS_SHOWN else ()
            files = "file contains" if count == 1 else "files contain"
            raise PreflightRefused(
                f"{count} {files} its path here in a way that cannot be changed to "
                f"{self.target_path}",
                details=(*facts.problems[:_PATHS_SHOWN], *more),
                hint="use a prefix there that is no longer than this one, "
                "or name in `local:` what is needed on no server: it is sent to none then",
            )
        return state._replace(
            revision_there=facts.revision,
            totals=facts.totals,
            findings=(*state.findings, *_left(facts.left)),
            compiled_left_out=facts.compiled_left_out,
        )

    def relocation(self) -> RelocationFacts:
        """Return what the source becomes at the path on the target."""
        return self.look.ask_once(RELOCATION, self.target_path)

    def revision_there(self) -> str:
        """Return the revision of what the source becomes on the target."""
        if self.target_path:
            return self.relocation().revision
        return self.look.state().revision_there

    def outside_paths(self) -> tuple[OutsidePath, ...]:
        """Return what leads out of the environment, or into it from outside, as on the target."""
        return self.look.ask_once(OUTSIDE_PATHS, self.target_path)

    def packages(self) -> frozenset[bytes]:
        """Return the paths by which a target tells whether it has packages of this environment."""
        self.look.state()
        paths = self.look.ask(SOURCE_PACKAGES, None)
        return frozenset(paths.split(b"\0")) if paths else frozenset()

    def credentials(self) -> tuple[str, ...]:
        """Return the paths of files that contain a password or a token."""
        return self.look.ask_once(FILES_WITH_CREDENTIALS, None)

    def requirements(self) -> Requirements:
        """Return what it takes to build the environment again elsewhere."""
        return self.look.ask_once(REQUIREMENTS, None)

    def newest_glibc(self, *, with_packages: bool = True) -> tuple[bytes, tuple[int, ...]]:
        """Return the file that needs the newest glibc, and the version that it needs.

        Without packages, no file in `site-packages` counts.
        """
        facts = self.look.ask_once(NEWEST_GLIBC, with_packages)
        return facts.path.encode("utf-8", "surrogateescape"), facts.version

    def sample(
        self, items: Collection[Item], codecs: Sequence[str], steps: Sequence[tuple[str, int]]
    ) -> SampleFacts:
        """Return how many bytes these files would take on the wire (see `agent.source.sampling`).

        Without `steps`, they are encoded as the source would encode them for a target that decodes
        `codecs`.
        """
        sizes = tuple(size for _, size in items)
        paths = b"\0".join(path for path, _ in items)
        codec_steps = tuple(CodecStep(*step) for step in steps)
        request = AskSample(sizes, tuple(codecs), codec_steps, self.target_path, paths)
        facts = self.look.ask(SAMPLE, request)
        if len(facts.wire_bytes) != max(1, len(steps)) or len(facts.seconds) < len(steps):
            raise AgentFailed("the source sent a sample of other files")
        return facts

    def require_readable(self, paths: Sequence[bytes]) -> None:
        """Raise `StorageFailed` if the source's disk does not return these files' contents."""
        if paths:
            self.look.ask(REQUIRE_READABLE, b"\0".join(paths))


def _left(paths: Sequence[str]) -> tuple[Finding, ...]:
    """Return a finding about files that nobody can rewrite.

    These are compiled code without its source, archives, files that contain the path in UTF-16 or
    UTF-32, and files without room for the base prefix there.
    """
    if not paths:
        return ()
    names = listed(paths, _PATHS_SHOWN)
    message = f"these files cannot be rewritten and still contain its path here: {names}"
    return (Finding("relocation", message),)
