"""Queries to the version that was found on a source, each answered once for all pushes."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from envsync.agent.wire.checked_json import from_json
from envsync.agent.wire.messages import (
    Finding,
    RelocationFacts,
    SampleFacts,
    SourceState,
    listed,
)
from envsync.agent.wire.short_answers import CredentialFacts, FindingsFacts, GlibcFacts
from envsync.agent.wire.source_requests import AskSample, CodecStep
from envsync.conda.requirements import Requirements
from envsync.errors import AgentFailed, PreflightRefused
from envsync.push.ends.source_look import SourceLook
from envsync.transport.job import Item

PROBLEMS_SHOWN = LEFT_SHOWN = 12


class SourceAnswers:
    """Asked once for each version, by all pushes, when there was a look at it. Safe to share
    between threads."""

    def __init__(self, look: SourceLook, there: str) -> None:
        """`there` is the path that it is for; empty where it is sent as it is."""
        self.look = look
        self.there = there

    def mirrored(self, state: SourceState) -> SourceState:
        """What `state` is at the target; `PreflightRefused` where it cannot be had there."""
        if not self.there:
            return state
        facts = self.relocation()
        if facts.problems:
            count = len(facts.problems)
            more = (f"and {count - PROBLEMS_SHOWN} more",) if count > PROBLEMS_SHOWN else ()
            files = "file names" if count == 1 else "files name"
            raise PreflightRefused(
                f"{count} {files} its path here in a way that cannot become {self.there}",
                details=(*facts.problems[:PROBLEMS_SHOWN], *more),
                hint="take a prefix there that is no longer than this one, "
                "or name what is not needed there in `local:`",
            )
        return state._replace(
            revision_there=facts.revision,
            totals=facts.totals,
            findings=(*state.findings, *_left(facts.left)),
        )

    def relocation(self) -> RelocationFacts:
        """What the source becomes there."""
        self.look.state()
        return self.look.asked_once(RelocationFacts, "source.relocate", self.there)

    def revision_there(self) -> str:
        """The revision of what it becomes there."""
        if self.there:
            return self.relocation().revision
        return self.look.state().revision_there

    def outside(self) -> tuple[str, ...]:
        """What leads out of the environment, a line each, with paths as they are there."""
        found = self.look.asked_once(FindingsFacts, "source.findings", self.there)
        return tuple(finding.message for finding in found.findings)

    def packages(self) -> frozenset[bytes]:
        """The paths by which a target tells whether it has packages of this environment."""
        self.look.state()
        payload = self.look.ask("source.packages").payload
        return frozenset(payload.split(b"\0")) if payload else frozenset()

    def credentials(self) -> tuple[str, ...]:
        """The files with a password or a token in them."""
        return self.look.asked_once(CredentialFacts, "source.credentials", "").paths

    def requirements(self) -> Requirements:
        """What it takes to make the environment again elsewhere."""
        self.look.state()
        return self.look.asked_once(Requirements, "source.requirements", "")

    def newest_glibc(self) -> tuple[bytes, tuple[int, ...]]:
        """The file that needs the newest glibc, and which that is."""
        self.look.state()
        told = self.look.asked_once(GlibcFacts, "source.glibc", "")
        return told.path.encode("utf-8", "surrogateescape"), told.version

    def sample(
        self, items: Collection[Item], codecs: Sequence[str], steps: Sequence[tuple[str, int]]
    ) -> SampleFacts:
        """What these files would come to on the wire (see `agent.source.sampling`).

        Without `steps`, as the source would encode them for a target that undoes `codecs`. As
        they are where it stands: what is rewritten compresses alike.
        """
        sizes = tuple(size for _, size in items)
        asked = AskSample(sizes, tuple(codecs), tuple(CodecStep(*step) for step in steps))
        payload = b"\0".join(path for path, _ in items)
        answer = self.look.ask("source.sample", asked, payload)
        facts = from_json(SampleFacts, answer.document)
        if len(facts.packed_bytes) != max(1, len(steps)) or len(facts.seconds) < len(steps):
            raise AgentFailed("a sample of something else")
        return facts

    def require_readable(self, paths: Sequence[bytes]) -> None:
        """Raise `StorageFailed` where the source's disk does not give these files' contents."""
        if paths:
            self.look.ask("source.readable", payload=b"\0".join(paths))


def _left(paths: Sequence[str]) -> tuple[Finding, ...]:
    """Compiled code without its source, archives, and what names it in UTF-16 or UTF-32:
    nobody can rewrite them."""
    if not paths:
        return ()
    names = listed(paths, LEFT_SHOWN)
    return (
        Finding("relocation", f"cannot be rewritten and goes on naming its path here: {names}"),
    )
