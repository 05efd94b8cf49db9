"""Finds the newest glibc that an environment's files need."""

from __future__ import annotations

from typing import Tuple

from envsync.agent.source.elf_files import ElfFiles, Question
from envsync.conda import elf

NEEDS_NO_GLIBC: Tuple[bytes, elf.Version] = (b"", ())


def newest(files: ElfFiles) -> Tuple[bytes, elf.Version]:
    """Return the file that needs the newest glibc, and its version, or `NEEDS_NO_GLIBC`."""
    newest_need = NEEDS_NO_GLIBC
    for path, version in files.ask(_QUESTION):
        if tuple(version) > newest_need[1]:
            newest_need = path, tuple(version)
    return newest_need


def _needed(read: elf.ReadAt) -> bytes:
    """Return the glibc version that a file needs, one byte per number; b"" if it needs none."""
    needed = elf.needed_glibc(read)
    return bytes(needed) if max(needed, default=0) < 256 else b""


_QUESTION = Question(b"envsync glibc 2\n", "91bc", _needed)
