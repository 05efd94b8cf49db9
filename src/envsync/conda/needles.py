"""The byte strings to search for to find files that contain an old path in any encoding.

Files written by Qt, C++ and Windows programs can have paths in UTF-16 or UTF-32. Such a path is
only found, not replaced: how much room it has, and what counts its characters, is unknown.
"""

from __future__ import annotations

from typing import Any, Dict, Iterator, NamedTuple, Sequence, Tuple

PLAIN, WIDE = 1, 2

_ENCODINGS = (("utf-16-le", 2), ("utf-16-be", 2), ("utf-32-le", 4), ("utf-32-be", 4))
_AROUND_CHARACTERS = 256

# Searching for single bytes costs next to nothing, and rules out most files.
_FOUND_IN = f"""
def found_in(content, start, end, plain, wide):
    find = content.find
    bits = {PLAIN} if any(find(needle, start, end) >= 0 for needle in plain) else 0
    if find(b"\\0", start, end) >= 0 and find(b"/", start, end) >= 0:
        if any(find(needle, start, end) >= 0 for needle in wide):
            bits |= {WIDE}
    return bits
"""
_defined: Dict[str, Any] = {}
exec(_FOUND_IN, _defined)  # noqa: S102  (a text, because workers have none of these modules)


class Needles(NamedTuple):
    """Byte strings of which every file that names an old path has one, and few others do.

    Those in `wide` are UTF-16 and UTF-32 without leading and trailing NULs, so that most stand
    for both byte orders.
    """

    plain: Tuple[bytes, ...]
    wide: Tuple[bytes, ...]

    def longest_bytes(self) -> int:
        return max(map(len, (*self.plain, *self.wide)), default=0)

    def found_in(self, content: bytes) -> int:
        """Return the bits `PLAIN` and `WIDE`, each set if one of its needles is in `content`."""
        bits: int = _defined["found_in"](content, 0, len(content), *self)
        return bits

    def code(self) -> str:
        """Return code for a process without these modules.

        It defines `found_in` for a part of a buffer, `needles`, its further arguments, and `kept`,
        how many bytes of a block may begin a needle that ends in the next one.
        """
        return f"{_FOUND_IN}needles, kept = {tuple(self)}, {max(1, self.longest_bytes()) - 1}\n"


def needles(paths: Sequence[bytes]) -> Needles:
    """Return the needles for these spellings of paths."""
    wide = (_encoded(path, encoding).strip(b"\0") for path in paths for encoding, _ in _ENCODINGS)
    return Needles(tuple(paths), tuple(dict.fromkeys(filter(None, wide))))


def wide_texts(paths: Sequence[bytes], content: bytes) -> Iterator[bytes]:
    """Yield each UTF-16 or UTF-32 occurrence of `paths` with the text around it, as UTF-8."""
    for path in paths:
        for encoding, width in _ENCODINGS:
            needle = _encoded(path, encoding)
            start = content.find(needle) if needle else -1
            while start >= 0:
                # Begin at the first byte of a character, also near the start of the file.
                begin = max(start % width, start - _AROUND_CHARACTERS * width)
                end = start + len(needle) + _AROUND_CHARACTERS * width
                text = content[begin:end].decode(encoding, "replace")
                yield text.encode("utf-8", "replace")
                start = content.find(needle, start + width)


def _encoded(path: bytes, encoding: str) -> bytes:
    """Return the path in `encoding`; empty if it is not UTF-8 and so has no such form."""
    try:
        return path.decode("utf-8").encode(encoding)
    except UnicodeDecodeError:
        return b""
