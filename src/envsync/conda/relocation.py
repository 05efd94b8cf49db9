"""Rewrites an environment's own path inside its files to another one.

A file tells where its environment stands in one of these ways:

- text: the path is replaced, whatever its length; a `#!` line that the kernel could not
  take becomes one for `/bin/sh` (see `envsync.conda.shebang`).
- a binary that conda wrote the path into: conda kept room for it, as NULs behind the string
  that holds it, and recorded how much. What is left is what conda would have written.
- any other binary: the path is replaced by one of the same length. A shorter one is filled
  up with slashes, which mean nothing in a path, so no byte moves: neither the strings of
  Rust or Go, which have no NUL behind them, nor the lengths in pickles and databases.
- in UTF-16 or UTF-32, where it stays: `names_any_widely` finds it.

Nothing here reads a file: the functions are pure, on bytes.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from typing import Collection, Iterator, List, Match, NamedTuple, Optional, Sequence, Tuple
from urllib.parse import quote

from envsync.conda import shebang, zip_archive
from envsync.conda.base_prefix import ENDS, base_of, follows, is_condas, is_named_for_conda
from envsync.conda.needles import needles, wide_texts

TEXT, BINARY = "text", "binary"

# A name goes on: `/envs/my` is not meant by `/envs/my-project`, but by `/envs/my.` is.
_NAME = rb"(?:[A-Za-z0-9_]|[.+~-]+[A-Za-z0-9_])"
# `/net/server1` before it: a path that only ends like ours. But not `-I` or `file://host`.
_LONGER_PATH = re.compile(rb"(?<!file:/)/[A-Za-z0-9_.~+@-]+/*\Z")
_IN_NAME = re.compile(_NAME)
_BEFORE_BYTES = 256


class CannotRelocate(ValueError):
    """A file that holds the path and cannot be given another; the text says why."""


class StaysAsItIs(CannotRelocate):
    """One that can be had at any place, but goes on naming the old one."""


class Move(NamedTuple):
    """A directory's absolute path here, and what it is there."""

    old: bytes
    new: bytes


class Placeholder(NamedTuple):
    """What conda recorded of a file that it wrote its prefix into."""

    mode: str
    size_bytes: int


def between(
    here: bytes,
    real: bytes,
    there: bytes,
    *,
    real_base: bytes = b"",
    earlier: Sequence[bytes] = (),
) -> Relocation:
    """The relocation of an environment's path to another one; both are PREFIX/envs/NAME.

    `real` is its path here without symlinks, which programs may have written down as well.
    Where that is all that differs, it stays in a binary that has no room: at the other end
    of a link, a path that is longer is nobody's choice. So do the paths where it stood
    `earlier`, before it was packed.

    `real_base` is PREFIX without symlinks. It has to be said: what stands above `real` can be
    any directory that somebody keeps environments in. So can what stands above one of the
    `earlier` paths, of which nobody can be asked any more: there its name decides.
    """
    environment = [Move(path, there) for path in dict.fromkeys((here, real, *earlier))]
    base = base_of(here)
    bases = [base, real_base or base] if base else []
    bases += filter(is_named_for_conda, map(base_of, earlier))
    needed = () if here == there else (here, real)
    above = [Move(path, base_of(there)) for path in dict.fromkeys(bases)]
    return Relocation(environment, above, needed)


class _Edit(NamedTuple):
    """The bytes from `start` to `end` become `new`."""

    start: int
    end: int
    new: bytes


class Relocation:
    """An environment that moves, by each name it has here, and the base prefix above it.

    Of what is below the base prefix, only conda's own places move (`base_prefix.follows`): the
    rest is whatever else stands there, and not the environment's to rename.

    `needles` find the files that name one of them.
    """

    def __init__(
        self,
        environment: Sequence[Move],
        above: Sequence[Move] = (),
        needed: Optional[Collection[bytes]] = None,
    ) -> None:
        """`needed` are the old names that must not stay anywhere; all of the environment's
        where it is None."""
        self._environment = [move for move in environment if move.old != move.new]
        self._above = [move for move in above if move.old != move.new]
        # Innermost first: what is below the environment is not merely below the prefix.
        self.moves = (*self._environment, *self._above)
        self._new = dict(reversed([one for move in self.moves for one in _spellings(move)]))
        # What has to be had, or the file cannot be.
        musts = [move for move in self._environment if needed is None or move.old in needed]
        self._inside = {old for move in musts for old, _ in _spellings(move)}
        longest_first = sorted(self._new, key=len, reverse=True)
        ends = dict.fromkeys(self._new, ENDS)
        for move in self._above:
            ends.update((old, follows(move.old)) for old, _ in _spellings(move))
        for move in self._environment:
            ends.update((old, ENDS) for old, _ in _spellings(move))
        alternatives = [re.escape(old) + ends[old] for old in longest_first]
        self._pattern = re.compile(b"|".join(alternatives))
        self.needles = needles(tuple(_without_longer(longest_first)))

    @property
    def old_names(self) -> Sequence[bytes]:
        """The paths that the environment has here and will not have there."""
        return [move.old for move in self._environment]

    def names_any(self, content: bytes) -> bool:
        """Whether one of the old paths is named."""
        return any(True for _ in self._found(content))

    def names_any_widely(self, content: bytes) -> bool:
        """Whether one of them is named in UTF-16 or UTF-32, where `rewrite` leaves it."""
        return any(map(self.names_any, wide_texts(self.needles.plain, content)))

    def link_target(self, target: bytes) -> bytes:
        """What a symlink has to lead to there."""
        for move in self._environment:
            if target == move.old or target.startswith(move.old + b"/"):
                return move.new + target[len(move.old) :]
        for move in self._above:
            if is_condas(move.old, target):
                return move.new + target[len(move.old) :]
        return target

    def rewrite(self, content: bytes, placeholder: Optional[Placeholder] = None) -> bytes:
        """The file as it has to be there; `CannotRelocate` where that cannot be had."""
        if not self.names_any(content):
            return content
        is_declared_text = placeholder is not None and placeholder.mode == TEXT
        if is_declared_text or b"\0" not in content:
            return self._text(content)
        if self._is_script_with_payload(content):
            return self._first_line(content)
        edits = [] if placeholder is None else sorted(self._declared(content, placeholder))
        return _edited(content, sorted([*edits, *self._same_length(content, edits)]))

    def _found(self, content: bytes) -> Iterator[Match[bytes]]:
        # Each needle is looked for once all along: one that is nowhere costs one search.
        next_at = {needle: content.find(needle) for needle in self.needles.plain}
        while True:
            next_at = {needle: start for needle, start in next_at.items() if start >= 0}
            if not next_at:
                return
            position = min(next_at.values())
            match = self._pattern.match(content, position)
            before = content[max(0, position - _BEFORE_BYTES) : position]
            if match and not _LONGER_PATH.search(before):
                yield match
                position = match.end()
            else:
                position += 1
            for needle, start in next_at.items():
                if start < position:
                    next_at[needle] = content.find(needle, position)

    def _replaced(self, content: bytes) -> bytes:
        return _edited(
            content,
            [_Edit(*match.span(), self._new[match.group()]) for match in self._found(content)],
        )

    def _text(self, content: bytes) -> bytes:
        end = shebang.end(content)
        head = shebang.relocated(content[:end], self._replaced)
        return head + self._replaced(content[end:])

    def _is_script_with_payload(self, content: bytes) -> bool:
        """Whether only its `#!` line names the path: what follows is an archive, say."""
        end = shebang.end(content)
        return bool(end) and not self.names_any(content[end:])

    def _first_line(self, content: bytes) -> bytes:
        """An archive knows how far it is from the file's start: that may grow, not shrink."""
        end = shebang.end(content)
        try:
            line = _edited(
                content[:end], list(self._same_length(content[:end], [], all_of_it=True))
            )
        except CannotRelocate:
            line = self._text(content[:end])
        return line + content[end:]

    def _declared(self, content: bytes, placeholder: Placeholder) -> Iterator[_Edit]:
        """As conda does it: what the path leaves of the placeholder's length is NULs."""
        for old, new in self._environment:
            room, room_there = placeholder.size_bytes - len(old), placeholder.size_bytes - len(new)
            for match in re.finditer(re.escape(old) + rb"[^\0]*", content) if room >= 0 else ():
                before = content[max(0, match.start() - _BEFORE_BYTES) : match.start()]
                if _LONGER_PATH.search(before):
                    continue  # the other name of the environment, which only ends like this one
                count = match.group().count(old)
                end = match.end() + room * count
                if content[match.end() : end + 1] != bytes(end + 1 - match.end()):
                    continue  # not as conda left it: changed since, or no string of conda's
                if room_there < 0:
                    raise CannotRelocate(
                        "conda left room for a path of %d characters; the one there has %d"
                        % (placeholder.size_bytes, len(new))
                    )
                text = match.group().replace(old, new) + bytes(room_there * count)
                yield _Edit(match.start(), end, text)

    def _same_length(
        self, content: bytes, edits: Sequence[_Edit], *, all_of_it: bool = False
    ) -> Iterator[_Edit]:
        """Edits of what is not edited yet; every byte that is none of the path stays in place."""
        starts = [edit.start for edit in edits]
        archive_at = zip_archive.start(content)
        for match in self._found(content):
            before = bisect_right(starts, match.start()) - 1
            if before >= 0 and match.start() < edits[before].end:
                continue
            if archive_at is not None and match.start() >= archive_at:
                raise StaysAsItIs("an archive, whose checksums would be wrong")
            try:
                yield _filled(content, match, self._new[match.group()])
            except CannotRelocate:
                if all_of_it or match.group() in self._inside:
                    raise
                # The base prefix is outside.


def _edited(content: bytes, edits: Sequence[_Edit]) -> bytes:
    parts: List[bytes] = []
    position = 0
    for edit in edits:
        parts += (content[position : edit.start], edit.new)
        position = edit.end
    parts.append(content[position:])
    return b"".join(parts)


def _filled(content: bytes, match: Match[bytes], new: bytes) -> _Edit:
    """A path in the place of another, with as many slashes behind it as there is room."""
    end = match.end()
    while content[end : end + 1] == b"/":
        end += 1
    # One slash has to stay before a further name; all others mean nothing.
    needed = 1 if end > match.end() and _IN_NAME.match(content, end) else 0
    room = end - match.start() - needed
    if len(new) > room:
        raise CannotRelocate(
            "a binary with room for a path of %d characters; the one there has %d"
            % (room, len(new))
        )
    return _Edit(match.start(), end, new.ljust(room + needed, b"/"))


def _spellings(move: Move) -> Iterator[Tuple[bytes, bytes]]:
    """A path as it stands in files: plain, in URLs, and in JSON."""
    yield move.old, move.new
    yield _in_url(move.old), _in_url(move.new)
    yield _in_json(move.old), _in_json(move.new)


def _in_url(path: bytes) -> bytes:
    return quote(path, safe="/~").encode("ascii")


def _in_json(path: bytes) -> bytes:
    return json.dumps(path.decode("utf-8", "surrogateescape"))[1:-1].encode("ascii")


def _without_longer(spellings: Sequence[bytes]) -> Iterator[bytes]:
    """Those that begin with no other of them."""
    for spelling in spellings:
        if not any(spelling != other and spelling.startswith(other) for other in spellings):
            yield spelling
