"""Makes small ELF files with only what a loader reads to find a library's libraries."""

from __future__ import annotations

import struct

RPATH, RUNPATH = 15, 29
_STRINGS, _SIZE = 5, 10
_PAGE = 0x1000


def elf(run_paths: dict[int, bytes], *, is_wide: bool = True, order: str = "<") -> bytes:
    """Return a library with these entries in its dynamic section.

    Its load address differs from its offset in the file.
    """
    head_bytes, row_bytes = (64, 56) if is_wide else (52, 32)
    strings, rows = b"\0", []
    for tag, text in run_paths.items():
        rows.append((tag, len(strings)))
        strings += text + b"\0"
    start = head_bytes + 2 * row_bytes
    table = [*rows, (_STRINGS, _PAGE), (_SIZE, len(strings)), (0, 0), (RUNPATH, 0)]
    dynamic = b"".join(struct.pack(order + ("QQ" if is_wide else "II"), *row) for row in table)
    at = start + len(strings)
    segments = [(1, start, _PAGE, len(strings)), (2, at, _PAGE + len(strings), len(dynamic))]
    head = b"\x7fELF" + bytes((1 + is_wide, 1 + (order == ">"), 1)) + bytes(9)
    head += struct.pack(
        order + ("HHIQQQIHHHHHH" if is_wide else "HHIIIIIHHHHHH"),
        *(3, 62 if is_wide else 3, 1, 0, head_bytes, 0, 0, head_bytes, row_bytes, 2, 0, 0, 0),
    )
    for kind, offset, address, size in segments:
        if is_wide:
            head += struct.pack(order + "IIQQQQQQ", kind, 4, offset, address, 0, size, size, 1)
        else:
            head += struct.pack(order + "8I", kind, offset, address, 0, size, size, 4, 1)
    return head + strings + dynamic
