"""The byte strings to search for, to find files that contain an old path in any encoding.

UTF-16 and UTF-32 are in what Qt, C++ and programs of Windows wrote. A path in them is only
found: nobody knows how much room it has, or who counts its characters.
"""

from __future__ import annotations

from typing import Iterator, NamedTuple, Sequence, Tuple

PLAIN, WIDE = 1, 2

_ENCODINGS = (("utf-16-le", 2), ("utf-16-be", 2), ("utf-32-le", 4), ("utf-32-be", 4))
_AROUND_CHARACTERS = 256


class Needles(NamedTuple):
    """One of these is in every file that names an old path, and in few others.

    Those in `wide` lack the NULs around them, so that most stand for both byte orders.
    """

    plain: Tuple[bytes, ...]
    wide: Tuple[bytes, ...]

    def longest_bytes(self) -> int:
        return max(map(len, (*self.plain, *self.wide)), default=0)

    def found_in(self, content: bytes) -> int:
        """`PLAIN` and `WIDE`, added up, as far as one of them is there."""
        found = PLAIN if any(needle in content for needle in self.plain) else 0
        # Looking for single bytes costs next to nothing, and spares most files the rest.
        if b"\0" in content and b"/" in content and any(needle in content for needle in self.wide):
            found |= WIDE
        return found


def needles(paths: Sequence[bytes]) -> Needles:
    """The needles for these spellings of paths."""
    wide = (_encoded(path, encoding).strip(b"\0") for path in paths for encoding, _ in _ENCODINGS)
    return Needles(tuple(paths), tuple(dict.fromkeys(filter(None, wide))))


def wide_texts(paths: Sequence[bytes], content: bytes) -> Iterator[bytes]:
    """What stands around each of these paths in UTF-16 and UTF-32, as it is in UTF-8."""
    for path in paths:
        for encoding, width in _ENCODINGS:
            needle = _encoded(path, encoding)
            start = content.find(needle) if needle else -1
            while start >= 0:
                # From a character's first byte on, also at the file's beginning.
                begin = max(start % width, start - _AROUND_CHARACTERS * width)
                end = start + len(needle) + _AROUND_CHARACTERS * width
                text = content[begin:end].decode(encoding, "replace")
                yield text.encode("utf-8", "replace")
                start = content.find(needle, start + width)


def _encoded(path: bytes, encoding: str) -> bytes:
    """Empty for a path that is no UTF-8, which nobody can have written so."""
    try:
        return path.decode("utf-8").encode(encoding)
    except UnicodeDecodeError:
        return b""
