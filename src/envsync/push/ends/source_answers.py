"""Queries about the version found on a source, most of them asked once for all pushes."""

from __future__ import annotations

from collections.abc import Collection, Sequence

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
from envsync.transport.job import Item

PROBLEMS_SHOWN = LEFT_SHOWN = 12


class SourceAnswers:
    """What a source answers about the version that was found there.

    Most queries are asked once for each version. Safe to share between threads.
    """

    def __init__(self, look: SourceLook, target_path: str) -> None:
        """`target_path` is the environment's path on the target; empty if it is sent unchanged."""
        self.look = look
        self.target_path = target_path

    def mirrored(self, state: SourceState) -> SourceState:
        """Return `state` as it will be on the target. Raises `PreflightRefused` if it cannot be."""
        if not self.target_path:
            return state
        facts = self.relocation()
        if facts.problems:
            count = len(facts.problems)
            more = (f"and {count - PROBLEMS_SHOWN} more",) if count > PROBLEMS_SHOWN else ()
            files = "file contains" if count == 1 else "files contain"
            raise PreflightRefused(
                f"{count} {files} its path here in a way that cannot be changed to "
                f"{self.target_path}",
                details=(*facts.problems[:PROBLEMS_SHOWN], *more),
                hint="use a prefix there that is no longer than this one, "
                "or name in `local:` what is not needed there",
            )
        return state._replace(
            revision_there=facts.revision,
            totals=facts.totals,
            findings=(*state.findings, *_left(facts.left)),
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

    def newest_glibc(self) -> tuple[bytes, tuple[int, ...]]:
        """Return the file that needs the newest glibc, and the version that it needs."""
        facts = self.look.ask_once(NEWEST_GLIBC, None)
        return facts.path.encode("utf-8", "surrogateescape"), facts.version

    def sample(
        self, items: Collection[Item], codecs: Sequence[str], steps: Sequence[tuple[str, int]]
    ) -> SampleFacts:
        """Return how many bytes these files would take on the wire (see `agent.source.sampling`).

        Without `steps`, they are encoded as the source would encode them for a target that decodes
        `codecs`. Contents are sampled unrelocated: rewritten ones compress alike.
        """
        sizes = tuple(size for _, size in items)
        paths = b"\0".join(path for path, _ in items)
        codec_steps = tuple(CodecStep(*step) for step in steps)
        facts = self.look.ask(SAMPLE, AskSample(sizes, tuple(codecs), codec_steps, paths))
        if len(facts.packed_bytes) != max(1, len(steps)) or len(facts.seconds) < len(steps):
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
    names = listed(paths, LEFT_SHOWN)
    message = f"these files cannot be rewritten and still contain its path here: {names}"
    return (Finding("relocation", message),)
