"""Rewrites an environment's own path inside its files to another one.

How a path is replaced depends on the file:

- text: by the new path, whatever its length; a `#!` line that the kernel would not accept
  gets another form (see `envsync.conda.shebang`).
- a binary into which conda wrote the path: conda left room for it, as NULs after the string
  that holds it, and recorded how much. The result is what conda would have written.
- any other binary: by a path of the same length. A shorter one is padded with slashes, which
  mean nothing in a path, so that no other byte moves. Strings of Rust or Go have no NUL after
  them, and pickles and databases store lengths.
- paths in UTF-16 or UTF-32 are not replaced; `names_any_widely` finds them.

Nothing here reads a file: the functions are pure, on bytes.
"""

from __future__ import annotations

import contextlib
import json
import re
from bisect import bisect_right
from typing import Collection, Dict, Iterator, List, Match, NamedTuple, Optional, Sequence
from urllib.parse import quote

from envsync.conda import shebang, zip_archive
from envsync.conda.base_prefix import ENDS, base_of, follows, is_condas, is_named_for_conda
from envsync.conda.needles import needles, wide_texts

TEXT, BINARY = "text", "binary"

# The name continues: `/envs/my-project` does not mean `/envs/my`, but `/envs/my.` does.
_NAME = rb"(?:[A-Za-z0-9_]|[.+~-]+[A-Za-z0-9_])"
# Something like `/net/server1` before a match makes it the end of another path; `-I` or
# `file://host` does not.
_LONGER_PATH = re.compile(rb"(?i:(?<!file:/))/[A-Za-z0-9_.~+@-]+/*\Z")
_IN_NAME = re.compile(_NAME)
_FILE_URL = re.compile(rb"(?i:(?<![A-Za-z0-9_.-])file):(?://[A-Za-z0-9.-]*)?\Z")
_BEFORE_BYTES = 256


class CannotRelocate(ValueError):
    """A file names the old path and it cannot be replaced; the text says why."""


class StaysAsItIs(CannotRelocate):
    """A file can be sent to any path, but goes on naming the old one."""


class Move(NamedTuple):
    """A directory's absolute path on the source, and the one on the target."""

    old: bytes
    new: bytes


class Placeholder(NamedTuple):
    """Conda's record about a file that it wrote its prefix into.

    `size_bytes` is the length of the placeholder that the prefix replaced.
    """

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
    """Return the relocation of an environment from `here` to `there`, both PREFIX/envs/NAME.

    `real` is the path `here` without symlinks, which programs may have written into files too.
    If only `real` differs from `there`, a binary without room for the new path keeps it, because
    the user did not choose the length of a path behind a symlink. The same goes for `earlier`,
    the paths that the environment had before it was packed.

    `real_base` is PREFIX without symlinks. It cannot be derived: the directory above `real` can
    be any in which somebody keeps environments. So can those above `earlier` paths, which
    cannot be looked up any more: they count as prefixes if they are named for conda.
    """
    environment = [Move(path, there) for path in dict.fromkeys((here, real, *earlier))]
    base = base_of(here)
    bases = [base, real_base or base] if base else []
    bases += filter(is_named_for_conda, map(base_of, earlier))
    needed = () if here == there else (here, real)
    above = [Move(path, base_of(there)) for path in dict.fromkeys(bases)]
    return Relocation(environment, above, needed)


class _Edit(NamedTuple):
    """Replaces the bytes from `start` to `end` by `new`."""

    start: int
    end: int
    new: bytes


class _Spelling(NamedTuple):
    """What replaces an old path that is spelled in some form, and a pattern for what ends it.

    `in_url` replaces it in a `file:` URL. A file in which one that `is_needed` cannot be replaced
    cannot be relocated.
    """

    new: bytes
    in_url: bytes
    ends: bytes
    is_needed: bool


class Relocation:
    """Replaces each path of an environment on the source, and the base prefix above it.

    Of the paths below the base prefix, only conda's own are replaced (`base_prefix.follows`):
    the others have nothing to do with the environment.

    `needles` find the files that name one of the old paths.
    """

    def __init__(
        self,
        environment: Sequence[Move],
        above: Sequence[Move] = (),
        needed: Optional[Collection[bytes]] = None,
    ) -> None:
        """`needed` are the old paths that must not remain in any file; None means all of the
        environment's."""
        self._environment = [move for move in environment if move.old != move.new]
        self._above = [move for move in above if move.old != move.new]
        self.moves = (*self._environment, *self._above)
        self._spellings: Dict[bytes, _Spelling] = {}
        # Innermost first: a path below the environment is below the prefix as well.
        for move in self._environment:
            self._add(move, ENDS, is_needed=needed is None or move.old in needed)
        for move in self._above:
            self._add(move, follows(move.old), is_needed=False)
        longest_first = sorted(self._spellings, key=len, reverse=True)
        alternatives = [re.escape(old) + self._spellings[old].ends for old in longest_first]
        self._pattern = re.compile(b"|".join(alternatives))
        self.needles = needles(tuple(_without_longer(longest_first)))

    def _add(self, move: Move, ends: bytes, *, is_needed: bool) -> None:
        """Add the old path in each form that files contain: plain, in URLs, in JSON.

        A path without special characters is the same in all. In a `file:` URL, it is then replaced
        by the new one in its form for URLs.
        """
        is_same_in_url = move.old == _in_url(move.old)
        for spell in (bytes, _in_url, _in_json):
            new = spell(move.new)
            in_url = _in_url(move.new) if is_same_in_url else new
            spelling = _Spelling(new, in_url, ends, is_needed)
            self._spellings.setdefault(spell(move.old), spelling)

    @property
    def old_names(self) -> Sequence[bytes]:
        """The old paths of the environment that are replaced."""
        return [move.old for move in self._environment]

    def names_any(self, content: bytes) -> bool:
        """Return whether `content` names one of the old paths."""
        return any(True for _ in self._found(content))

    def names_any_widely(self, content: bytes) -> bool:
        """Return whether `content` names one in UTF-16 or UTF-32, which `rewrite` leaves."""
        return any(map(self.names_any, wide_texts(self.needles.plain, content)))

    def link_target(self, target: bytes) -> bytes:
        """Return what a symlink to `target` has to lead to on the target server."""
        for move in self._environment:
            if target == move.old or target.startswith(move.old + b"/"):
                return move.new + target[len(move.old) :]
        for move in self._above:
            if is_condas(move.old, target):
                return move.new + target[len(move.old) :]
        return target

    def rewrite(self, content: bytes, placeholder: Optional[Placeholder] = None) -> bytes:
        """Return the file's content for the new path; `CannotRelocate` if that is impossible."""
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
        # Each needle is searched for once over the whole content; an absent one costs one search.
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
        edits = []
        for match in self._found(content):
            spelling = self._spellings[match.group()]
            before = content[max(0, match.start() - _BEFORE_BYTES) : match.start()]
            new = spelling.in_url if _FILE_URL.search(before) else spelling.new
            edits.append(_Edit(*match.span(), new))
        return _edited(content, edits)

    def _text(self, content: bytes) -> bytes:
        end = shebang.end(content)
        head = shebang.relocated(content[:end], self._replaced)
        return head + self._replaced(content[end:])

    def _is_script_with_payload(self, content: bytes) -> bool:
        """Return whether only its `#!` line names the path; an archive may follow it."""
        end = shebang.end(content)
        return bool(end) and not self.names_any(content[end:])

    def _first_line(self, content: bytes) -> bytes:
        """Return the content with its `#!` line replaced by one of the same length, or a longer.

        A payload knows its distance from the start of the file, which can grow but not shrink,
        except for an archive directly behind the line that was moved away from the start before.
        """
        end = shebang.end(content)
        line, archive = self._text(content[:end]), zip_archive.find(content)
        shifted_bytes = archive.shifted_bytes if archive and archive.start <= end else 0
        if not shifted_bytes or len(line) < end - shifted_bytes:
            line = self._not_shorter(line, content[:end])
        return line + content[end:]

    def _not_shorter(self, line: bytes, before: bytes) -> bytes:
        """Return a `#!` line that is not shorter than before, and of the same length if possible.

        A blank would end the interpreter's path. The kernel ignores blanks at the line's end.
        """
        with contextlib.suppress(CannotRelocate):
            same_length = _edited(before, list(self._same_length(before, [], all_of_it=True)))
            if same_length.count(b" ") <= before.count(b" "):
                return same_length
        if len(line) < len(before):
            line = line.rstrip(b"\n").ljust(len(before) - 1) + b"\n"
        return line

    def _declared(self, content: bytes, placeholder: Placeholder) -> Iterator[_Edit]:
        """Yield edits that do as conda does: NULs fill the rest of the placeholder's length."""
        for old, new in self._environment:
            room, room_there = placeholder.size_bytes - len(old), placeholder.size_bytes - len(new)
            if room < 0:
                continue
            for match in re.finditer(re.escape(old) + rb"[^\0]*", content):
                before = content[max(0, match.start() - _BEFORE_BYTES) : match.start()]
                if _LONGER_PATH.search(before):
                    continue  # another name of the environment, which only ends like this one
                count = match.group().count(old)
                end = match.end() + room * count
                if content[match.end() : end + 1] != bytes(end + 1 - match.end()):
                    continue  # not as conda left it: changed since, or not written by conda
                if room_there < 0:
                    raise CannotRelocate(
                        f"conda left room for a path of {placeholder.size_bytes} characters, "
                        f"but the one there has {len(new)}"
                    )
                text = match.group().replace(old, new) + bytes(room_there * count)
                yield _Edit(match.start(), end, text)

    def _same_length(
        self, content: bytes, edits: Sequence[_Edit], *, all_of_it: bool = False
    ) -> Iterator[_Edit]:
        """Yield edits of the paths outside `edits`, in which all other bytes stay in place.

        Raises `CannotRelocate` if there is no room for a path that is needed, or with
        `all_of_it` for any path.
        """
        starts = [edit.start for edit in edits]
        archive = zip_archive.find(content)
        for match in self._found(content):
            before = bisect_right(starts, match.start()) - 1
            if before >= 0 and match.start() < edits[before].end:
                continue
            if archive is not None and match.start() >= archive.start:
                raise StaysAsItIs("an archive, whose checksums would be wrong")
            spelling = self._spellings[match.group()]
            try:
                yield _filled(content, match, spelling.new)
            except CannotRelocate:
                if all_of_it or spelling.is_needed:
                    raise
                # A path that is not needed stays.


def _edited(content: bytes, edits: Sequence[_Edit]) -> bytes:
    parts: List[bytes] = []
    position = 0
    for edit in edits:
        parts += (content[position : edit.start], edit.new)
        position = edit.end
    parts.append(content[position:])
    return b"".join(parts)


def _filled(content: bytes, match: Match[bytes], new: bytes) -> _Edit:
    """Return an edit that puts `new` in the place of a match, padded with slashes."""
    end = match.end()
    while content[end : end + 1] == b"/":
        end += 1
    # One slash has to stay before a further name; the others mean nothing.
    needed = 1 if end > match.end() and _IN_NAME.match(content, end) else 0
    room = end - match.start() - needed
    if len(new) > room:
        raise CannotRelocate(
            f"the binary has room for a path of {room} characters, but the one there has {len(new)}"
        )
    return _Edit(match.start(), end, new.ljust(room + needed, b"/"))


def _in_url(path: bytes) -> bytes:
    return quote(path, safe="/~").encode("ascii")


def _in_json(path: bytes) -> bytes:
    return json.dumps(path.decode("utf-8", "surrogateescape"))[1:-1].encode("ascii")


def _without_longer(spellings: Sequence[bytes]) -> Iterator[bytes]:
    """Yield the spellings that do not begin with another one."""
    for spelling in spellings:
        if not any(spelling != other and spelling.startswith(other) for other in spellings):
            yield spelling
