"""Reads the entries of an archive as a stream, to its very end, with limited memory."""

from __future__ import annotations

import lzma
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NoReturn, cast

from envsync.errors import NotFound, SourceRefused
from envsync.push.packing.decompression import decompressed
from envsync.push.packing.proof import Proved

_BLOCK_BYTES = 1 << 20
_ENTRIES_MAX = 2_000_000
_HEADERS_MAX_BYTES = 1 << 20
_HEADER_BYTES = 64 << 10
"""The least that each header before an entry counts: tarfile reads them recursively."""
_AFTER_END_MAX_BYTES = 64 << 20
"""The most that may follow an archive's end, which is padded with zeros to a tape's block size."""
_DESCRIBING = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)
_DAMAGED = (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, OSError)
_ANEW = "copy it here again, or create it again: envsync pack ENV -o FILE"


@contextmanager
def opened_archive(
    archive: Path, *, is_own: bool
) -> Iterator[tuple[tarfile.TarFile, Proved | None]]:
    """Open the archive as a stream, and read it to its very end, where its checksum is.

    The proof, needed if the compression has no checksum, is known after the block.
    """
    import zstandard

    try:
        with archive.open("rb") as file:
            content, has_checksum = decompressed(file)
            proof = None if has_checksum or is_own else Proved(content)
            stream = cast("IO[bytes]", content if proof is None else proof)
            with _Tar.open(fileobj=stream, mode="r|") as tar:
                yield tar, proof
            _read_to_end(stream)
    except (FileNotFoundError, IsADirectoryError) as error:
        if error.filename != str(archive):
            raise
        raise NotFound(f"there is no file {archive}") from error
    except (*_DAMAGED, zstandard.ZstdError) as error:
        if isinstance(error, OSError) and error.filename is not None:
            raise
        raise SourceRefused(f"{archive} is damaged or no archive: {error}", hint=_ANEW) from error
    if proof is not None and proof.is_refuted:
        raise SourceRefused(f"{archive} is damaged: its checksum does not match", hint=_ANEW)


def _read_to_end(stream: IO[bytes]) -> None:
    left_bytes = _AFTER_END_MAX_BYTES
    while block := stream.read(_BLOCK_BYTES):
        left_bytes -= len(block)
        if left_bytes < 0:
            raise SourceRefused(
                f"the archive has more than {_AFTER_END_MAX_BYTES >> 20} MiB after its end"
            )


def entries(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yield the entries one by one, without keeping any."""
    for _ in range(_ENTRIES_MAX):
        try:
            member = tar.next()
        except (ValueError, OverflowError) as error:
            raise SourceRefused(f"the archive has an invalid header: {error}") from error
        if member is None:
            return
        tar.members.clear()  # type: ignore[attr-defined]  # what a stream has had is not gone back to
        yield member
    raise SourceRefused(f"the archive has more than {_ENTRIES_MAX} entries")


class _Member(tarfile.TarInfo):
    """An entry whose headers have a normal size, because tarfile reads them into memory."""

    def _proc_member(self, tar: _Tar) -> tarfile.TarInfo:
        if self.type == tarfile.GNUTYPE_SPARSE:
            self._refuse_sparse()
        if self.type not in _DESCRIBING:
            tar.ahead_bytes = 0
        elif self.size < 0:
            raise SourceRefused("the archive has a header with a negative size")
        else:
            counted_bytes = max(self.size, _HEADER_BYTES)
            tar.ahead_bytes += counted_bytes
            # Headers that apply to all later entries are kept to the end.
            tar.global_bytes += counted_bytes * (self.type == tarfile.XGLTYPE)
            if max(tar.ahead_bytes, tar.global_bytes) > _HEADERS_MAX_BYTES:
                raise SourceRefused(
                    f"the archive has headers of more than {_HEADERS_MAX_BYTES >> 20} MiB"
                )
        return super()._proc_member(tar)  # type: ignore[misc,no-any-return]

    def _refuse_sparse(self, *_: object) -> NoReturn:
        raise SourceRefused(f"the archive has {self.name[:200]!r}, which is not a file or link")

    _proc_gnusparse_00 = _proc_gnusparse_01 = _proc_gnusparse_10 = _refuse_sparse


class _Tar(tarfile.TarFile):
    """Counts the bytes of headers before the next entry, and of those for all later entries."""

    tarinfo = _Member
    ahead_bytes = 0
    global_bytes = 0
