"""A source as it is for a target where the environment stands at another path.

The same questions as `SourceEnd` answers, with the manifest and the contents as they have to
be there. Revisions are the source's own: relocation makes no other version.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Container, Iterator, Sequence
from contextlib import AbstractContextManager

from envsync.agent.wire.messages import Finding, PlaceFacts, SampleFacts, SourceState, listed
from envsync.conda.requirements import Requirements
from envsync.errors import PreflightRefused
from envsync.push.ends.end import Progress
from envsync.push.ends.source_end import Outlined, SourceEnd
from envsync.transport.job import Contents, Direct, Item, Relayed

PROBLEMS_SHOWN = LEFT_SHOWN = 12


def toward(source: SourceEnd, there: str) -> SourceEnd | RelocatedSource:
    """The source for a target where the environment will stand at that path."""
    return RelocatedSource(source, there) if source.may_name_another(there) else source


class RelocatedSource:
    """Made for one push; safe to share between its threads."""

    def __init__(self, source: SourceEnd, there: str) -> None:
        """`there` is the environment's path on the target: PREFIX/envs/NAME."""
        self._source = source
        self._there = there

    @property
    def server(self) -> str:
        return self._source.server

    @property
    def path(self) -> bytes:
        return self._source.path

    @property
    def place(self) -> PlaceFacts | None:
        return self._source.place

    def state(self, on_progress: Progress | None = None) -> SourceState:
        return self._source.state(on_progress)

    def renewed(self, state: SourceState) -> SourceState:
        return self._source.renewed(state)

    def confirmed(self, state: SourceState) -> bool:
        return self._source.confirmed(state)

    def requirements(self) -> Requirements:
        return self._source.requirements()

    def mirrored(self, state: SourceState) -> SourceState:
        """What `state` is at the target; `PreflightRefused` where it cannot be had there."""
        facts = self._source.relocation(self._there)
        if facts.problems:
            count = len(facts.problems)
            more = (f"and {count - PROBLEMS_SHOWN} more",) if count > PROBLEMS_SHOWN else ()
            files = "file names" if count == 1 else "files name"
            raise PreflightRefused(
                f"{count} {files} its path here in a way that cannot become {self._there}",
                details=(*facts.problems[:PROBLEMS_SHOWN], *more),
                hint="take a prefix there that is no longer than this one, "
                "or name what is not needed there in `local:`",
            )
        return state._replace(
            revision_there=facts.revision,
            totals=facts.totals,
            findings=(*state.findings, *_left(facts.left)),
        )

    @property
    def direct(self) -> Direct | None:
        """Never: what is sent does not stand there."""
        return None

    @property
    def relayed(self) -> Relayed | None:
        return self._source.relayed_for(self._there)

    @property
    def is_changed(self) -> bool:
        return self._source.is_changed

    def is_being_hashed(self) -> bool:
        return self._source.is_being_hashed()

    def outline(self) -> Outlined | None:
        """As it is here: what becomes another one there is sent once more.

        None for a longer path: a file without room for it stops the push before anything
        is sent, and which those are is not known yet.
        """
        is_longer = len(os.fsencode(self._there)) > len(os.fsencode(self._source.path_known_as))
        return None if is_longer else self._source.outline()

    def manifest(self, known: bytes) -> bytes:
        return self._source.manifest(known, self._there)

    def packages(self) -> frozenset[bytes]:
        return self._source.packages()

    def items(self, paths: Sequence[bytes]) -> Collection[Item]:
        return self._source.items(paths, self._there)

    def contents(
        self,
        items: Collection[Item],
        progress: Callable[[int, int], None] | None = None,
    ) -> Iterator[bytes]:
        return self._source.contents(items, progress, self._there)

    def sample(
        self,
        items: Collection[Item],
        codecs: Sequence[str],
        steps: Sequence[tuple[str, int]],
    ) -> SampleFacts:
        """As they are here: what is rewritten compresses alike."""
        return self._source.sample(items, codecs, steps)

    def hashing_while_sent(self) -> AbstractContextManager[Contents, bool | None]:
        """With the contents as they are here, like the outline."""
        return self._source.hashing_while_sent(self._there)

    def elsewhere(self) -> Container[bytes]:
        """The files whose contents do not stand below `path` as they have to be there."""
        return self._source.elsewhere(self._there)

    def outside(self) -> tuple[str, ...]:
        return self._source.outside(self._there)

    def credentials(self) -> tuple[str, ...]:
        return self._source.credentials()

    def newest_glibc(self) -> tuple[bytes, tuple[int, ...]]:
        return self._source.newest_glibc()

    def sees(self, nonce: str) -> bool:
        return self._source.sees(nonce)

    def remember(self, revision: str) -> None:
        self._source.remember(revision)

    def require_readable(self, paths: Sequence[bytes]) -> None:
        self._source.require_readable(paths)

    def changed(self) -> bool:
        return self._source.changed()


def _left(paths: Sequence[str]) -> tuple[Finding, ...]:
    """Compiled code without its source, archives, and what names it in UTF-16 or UTF-32:
    nobody can rewrite them."""
    if not paths:
        return ()
    names = listed(paths, LEFT_SHOWN)
    return (
        Finding("relocation", f"cannot be rewritten and goes on naming its path here: {names}"),
    )
