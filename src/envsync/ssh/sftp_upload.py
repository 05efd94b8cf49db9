"""One file to a server by SFTP, from an offset on."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from paramiko.sftp import SFTPError
from paramiko.ssh_exception import SSHException

from envsync.errors import EnvsyncError
from envsync.ssh import failures

if TYPE_CHECKING:
    from paramiko import SFTPClient

_READ_BYTES = 1 << 20


def send_file(
    sftp: SFTPClient,
    server: str,
    source: Path,
    destination: bytes,
    offset: int,
    progress: Callable[[int], None] | None,
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
                remote.set_pipelined(True)
                remote.seek(offset)
                while data := local.read(_READ_BYTES):
                    remote.write(data)
                    if progress is not None:
                        progress(len(data))
                remote.set_pipelined(False)
                remote.flush()
                remote.truncate(size)
        except (OSError, SFTPError, SSHException, EOFError) as error:
            raise _translated(error, sftp, server, destination) from error


def _translated(
    error: Exception, sftp: SFTPClient, server: str, destination: bytes
) -> EnvsyncError:
    channel = sftp.get_channel()
    if isinstance(error, (EOFError, TimeoutError)) or channel is None or channel.closed:
        return failures.lost(server, error)
    return failures.upload_failed(error, server, os.fsdecode(destination))
