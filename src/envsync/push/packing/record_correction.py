"""Corrects conda's and pip's records about files that were rewritten where they were unpacked."""

from __future__ import annotations

import functools
import hashlib
import os
import re
import stat
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from envsync.conda.relocated_records import (
    Rewritten,
    is_conda_record,
    is_pip_record,
    with_new_digests,
)
from envsync.push.packing.recorded_digests import files

_PLACEHOLDER = re.compile(rb'"prefix_placeholder"\s*:\s*"(/[^"]+)"')


def placeholders(top: Path) -> Sequence[bytes]:
    """Return the paths that files had in place of the prefix when they were packaged."""
    found: set[bytes] = set()
    for path, _ in files(top):
        if is_conda_record(os.fsencode(path)):
            found.update(_PLACEHOLDER.findall((top / path).read_bytes()))
    return sorted(found)


class RewrittenFiles:
    """Rewrites files below `top`, and then corrects the records about them."""

    def __init__(self, top: Path) -> None:
        self._top = top
        self._before: dict[Path, dict[bytes, int]] = defaultdict(dict)

    def replace(
        self,
        path: Path,
        change: Callable[[bytes], bytes],
        as_installed: Callable[[bytes], Iterable[bytes]] = lambda _: (),
    ) -> None:
        """Replace a file's content and keep its mode and mtime, by which bytecode is found valid.

        A record is about the content that was replaced, or one that `as_installed` returns for it.
        """
        before = path.read_bytes()
        after = change(before)
        if after == before:
            return
        status = path.stat()
        path.unlink()
        path.write_bytes(after)
        path.chmod(stat.S_IMODE(status.st_mode))
        os.utime(path, ns=(status.st_mtime_ns, status.st_mtime_ns))
        for content in (before, *as_installed(before)):
            self._before[path][hashlib.sha256(content).digest()] = len(content)

    def correct_records(self) -> None:
        """Have the records say what the files are now, if they said what these were before."""
        for is_record in (is_pip_record, is_conda_record):
            rewritten = self._rewritten()
            for path, _ in files(self._top):
                if is_record(os.fsencode(path)):
                    correct = functools.partial(
                        with_new_digests, os.fsencode(path), rewritten=rewritten
                    )
                    self.replace(self._top / path, correct)

    def _rewritten(self) -> dict[bytes, Rewritten]:
        rewritten = {}
        for path, before in self._before.items():
            content = path.read_bytes()
            digest = hashlib.sha256(content).digest()
            for old, size_bytes in before.items():
                rewritten[old] = Rewritten(size_bytes, digest, len(content))
        return rewritten
