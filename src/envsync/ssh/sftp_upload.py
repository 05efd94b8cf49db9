"""One file to a server by SFTP, from an offset on."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from paramiko.sftp import SFTPError
from paramiko.ssh_exception import SSHException

from envsync.errors import EnvsyncError
from envsync.ssh import failures, refusals

if TYPE_CHECKING:
    from paramiko import SFTPClient

_READ_BYTES = 1 << 20
# paramiko asks for 32 KiB in each request, which every server must take. OpenSSH takes 256
# KiB; with 128 KiB a file arrives half as fast again.
_OPENSSH_REQUEST_BYTES = 128 << 10


def send_file(
    sftp: SFTPClient,
    server: str,
    source: Path,
    destination: bytes,
    offset: int,
    progress: Callable[[int], None] | None,
    *,
    is_openssh: bool,
) -> None:
    """Whatever fails, a prefix of the source stands at `destination`: writes are in order."""
    with source.open("rb") as local:
        local.seek(offset)
        size = os.fstat(local.fileno()).st_size
        try:
            # "r+" never creates: a resumed file that vanished is a failure, and no hole.
            with sftp.open(destination, "r+b" if offset else "wb") as remote:
                # Before the first byte, so that no other mode ever held content.
                remote.chmod(0o600)
                if is_openssh:
                    remote.MAX_REQUEST_SIZE = _OPENSSH_REQUEST_BYTES
                remote.set_pipelined(True)
                remote.seek(offset)
                while data := local.read(_READ_BYTES):
                    if local.tell() >= size:
                        # Waits for what became of every write before it: paramiko throws
                        # away the answers that nobody waited for, a full disk's too.
                        remote.set_pipelined(False)
                    remote.write(data)
                    if progress is not None:
                        progress(len(data))
                remote.truncate(size)
        except (OSError, SFTPError, SSHException, EOFError) as error:
            raise _translated(error, sftp, server, destination) from error


def _translated(
    error: Exception, sftp: SFTPClient, server: str, destination: bytes
) -> EnvsyncError:
    channel = sftp.get_channel()
    if isinstance(error, (EOFError, TimeoutError)) or channel is None or channel.closed:
        return refusals.lost(server, error)
    return failures.upload_failed(error, server, os.fsdecode(destination))
