"""Answers of a field or two, as values: checked where they come in, as every message is."""

from __future__ import annotations

from typing import NamedTuple, Optional, Tuple

from envsync.agent.messages import Finding, PlaceFacts


class SourceOpened(NamedTuple):
    """`place` is None where there is no such environment; `stands_at` is its path without links."""

    place: Optional[PlaceFacts]
    stands_at: str


class FindingsFacts(NamedTuple):
    findings: Tuple[Finding, ...]


class CredentialFacts(NamedTuple):
    """The paths of files with passwords or tokens in them."""

    paths: Tuple[str, ...]


class GlibcFacts(NamedTuple):
    """The file that needs the newest glibc, and which that is: `(2, 34)`."""

    path: str
    version: Tuple[int, ...]


class SeesFacts(NamedTuple):
    sees: bool


class ConfirmedFacts(NamedTuple):
    confirmed: bool


class ExistingFacts(NamedTuple):
    """Whether something is there, path by path as they were asked about."""

    existing: Tuple[bool, ...]


class ShareFacts(NamedTuple):
    """Whether what stands there is shared so already, and what a person should know."""

    is_shared: bool
    warnings: Tuple[str, ...]
