"""Corrects conda's and pip's records about files that were rewritten where they were unpacked."""

from __future__ import annotations

import functools
import hashlib
import os
import stat
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

from envsync.conda.metadata import is_conda_record, is_pip_record
from envsync.conda.relocated_records import Rewritten, declarations, with_new_digests
from envsync.push.packing.regular_files import regular_files


class RewrittenFiles:
    """Rewrites files below `top`, and then corrects the records about them."""

    def __init__(self, top: Path, earlier: Iterable[bytes]) -> None:
        """`earlier` are the prefixes with which the files may have been installed."""
        self._top = top
        self._earlier = tuple(earlier)
        self._packaged = _prefixes_as_packaged(top)
        self._before: dict[Path, dict[bytes, int]] = defaultdict(dict)

    def replace(
        self,
        path: Path,
        change: Callable[[bytes], bytes],
        in_prefix: Callable[[bytes, bytes], bytes] = lambda content, _: content,
    ) -> None:
        """Replace a file's content and keep its mode and mtime, by which bytecode is found valid.

        A record is about the content that was replaced, or about what `in_prefix` makes of it for
        one of the earlier prefixes, or for what conda's package has in place of the prefix.
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
        self._add(path, before)
        packaged = self._packaged.get(os.fsencode(path.relative_to(self._top)))
        for prefix in (*self._earlier, *([] if packaged is None else [packaged])):
            installed = in_prefix(before, prefix)
            if installed != before:
                self._add(path, installed)

    def _add(self, path: Path, content: bytes) -> None:
        self._before[path][hashlib.sha256(content).digest()] = len(content)

    def correct_records(self) -> None:
        """Have the records say what the files are now, if they said what these were before."""
        for is_record in (is_pip_record, is_conda_record):
            rewritten = self._rewritten()
            for path, _ in regular_files(self._top):
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


def _prefixes_as_packaged(top: Path) -> dict[bytes, bytes]:
    """Return, by path, what conda's packages have in place of the prefix in their scripts."""
    by_path: dict[bytes, bytes] = {}
    for path, _ in regular_files(top):
        if is_conda_record(os.fsencode(path)):
            record = (top / path).read_bytes()
            if b'"bin/' in record:  # in few of them, and the others are large
                by_path.update((file.path, file.prefix) for file in declarations(record))
    return by_path
