"""Judges the target and the exit status of commands after a round by what the script did."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field

from bench.torture.observed import NOTHING, Fingerprint, Observed
from bench.torture.script import Round
from envsync.errors import (
    NotFastForward,
    NotFound,
    PreflightRefused,
    RevisionHeld,
    TargetDrifted,
    VerificationFailed,
)

DONE = frozenset({0})


class Fallen(AssertionError):
    """A promise was broken; `kind` says in a few words which one."""

    def __init__(self, kind: str, what: str) -> None:
        super().__init__(f"{kind}: {what}")
        self.kind = kind


@dataclass(slots=True)
class Judge:
    """What the script has done so far, and what has to hold because of it.

    `source` is the source's present version. `made` are the versions that the script made by hand
    on the target, `precious` those that no clean-up may lose, `left` those that a rollback left.
    """

    source: Fingerprint = NOTHING
    pushable: set[Fingerprint] = field(default_factory=set)
    made: set[Fingerprint] = field(default_factory=set)
    precious: set[Fingerprint] = field(default_factory=set)
    left: set[Fingerprint] = field(default_factory=set)

    # What the script tells

    def source_is(self, content: Fingerprint) -> None:
        self.source = content
        self.pushable.add(content)

    def drifted(self, before: Observed, after: Observed) -> None:
        """The script changed something on the target by hand."""
        gone = before.standing() - after.standing()
        self.precious -= gone
        came = after.standing() - before.standing()
        self.made |= came
        self.precious |= came

    # What a command may do

    def acceptable_exits(self, round_: Round, before: Observed) -> frozenset[int]:
        """Return the exit statuses that the operation may have if nothing is hit."""
        match round_.operation:
            case "push" | "overwrite":
                forced = round_.operation == "overwrite"
                return self.push_exits(before, overwrite=forced, retry_held=round_.retry_held)
            case "rollback" | "rollback-overwrite":
                return self._rollback_exits(before, overwrite=round_.operation != "rollback")
            case "verify":
                if before.live is None or before.recorded == NOTHING:
                    return frozenset({NotFound.exit_code})
                same = before.recorded == before.content
                return DONE if same else frozenset({VerificationFailed.exit_code})
        return DONE

    def push_exits(self, before: Observed, *, overwrite: bool, retry_held: bool) -> frozenset[int]:
        if before.live is None or before.content == self.source:
            # An interrupted rollback may still have to record the held revision.
            return DONE
        held = {RevisionHeld.exit_code} if self.source in self.left and not retry_held else set()
        if overwrite:
            return DONE | held
        if before.recorded != before.content:
            return frozenset({TargetDrifted.exit_code}) | held
        if before.content not in self.pushable:
            return frozenset({NotFastForward.exit_code}) | held
        return DONE | held

    def _rollback_exits(self, before: Observed, *, overwrite: bool) -> frozenset[int]:
        if before.live is None:
            return frozenset({NotFound.exit_code})
        exits = {0, NotFound.exit_code}
        if before.recorded != before.content and not overwrite:
            exits = {TargetDrifted.exit_code, NotFound.exit_code}
        if before.versions() & self.made:
            exits.add(PreflightRefused.exit_code)
        return frozenset(exits)

    def acceptable_contents(
        self, round_: Round, before: Observed, exit_code: int
    ) -> set[Fingerprint]:
        """Return the versions that may be live afterwards."""
        if round_.is_push:
            return {self.source} if exit_code == 0 else {before.content, self.source}
        if round_.operation.startswith("rollback"):
            earlier = before.versions()
            return earlier if exit_code == 0 else {before.content, *earlier}
        return {before.content}

    # What has to hold whatever happened

    def check(self, after: Observed, acceptable: set[Fingerprint]) -> None:
        if after.live is None and acceptable != {NOTHING}:
            raise Fallen("missing", "nothing stands at the name")
        if after.content not in acceptable:
            raise Fallen("unknown version", f"{after.content} stands there, not {acceptable}")
        for kind, what in (*self._generations(after), *self._shared(after)):
            raise Fallen(kind, what)
        lost = self.precious - after.standing()
        if lost:
            raise Fallen("loss", f"{lost} was made by hand there and is gone")

    def _generations(self, after: Observed) -> Iterator[tuple[str, str]]:
        for inode, record in after.records.items():
            if inode == after.live_inode:
                continue
            tree = after.trees.get(inode)
            if tree is None:
                yield "damaged generation", f"{record.number} has no tree"
            elif tree.content != after.published[inode] and tree.content not in self.made:
                yield "damaged generation", f"{record.number} is not what its record says"

    def _shared(self, after: Observed) -> Iterator[tuple[str, str]]:
        seen: set[int] = set() if after.live is None else set(after.live.files)
        for tree in after.trees.values():
            if seen & tree.files:
                yield "shared inode", str(tree.path)
            seen |= tree.files

    @staticmethod
    def require_refusal(exit_code: int) -> None:
        """Raise `Fallen` unless the command was refused because of a change by hand."""
        if exit_code != TargetDrifted.exit_code:
            raise Fallen("overwritten", f"changed by hand before the switch, and told {exit_code}")

    def meddled(
        self, path: bytes, after: Observed, without: Observed, acceptable: set[Fingerprint]
    ) -> None:
        """Judge a command during which a file was added; `without` is the target without it.

        The file has to be in some tree. Trees with it count as made by hand and may not be lost.
        """
        if without.content not in acceptable:
            raise Fallen("unknown version", f"{without.content} stands there, not {acceptable}")
        name = os.fsdecode(path)
        carriers = [
            (tree.content, plain.content)
            for tree, plain in zip(after.every_tree(), without.every_tree(), strict=True)
            if (tree.path / name).exists()
        ]
        if not carriers:
            raise Fallen("loss", f"{name} was made by hand during the command and is gone")
        self.precious -= {plain for _, plain in carriers} - after.standing()
        self.made |= {content for content, _ in carriers}
        self.precious |= {content for content, _ in carriers}

    def after_operation(self, round_: Round, before: Observed, after: Observed) -> None:
        """Note what the operation was allowed to do."""
        if round_.operation.startswith("rollback"):
            self.left |= {before.content, before.recorded}
        if round_.operation == "gc-drifted":
            self.precious &= after.standing()
