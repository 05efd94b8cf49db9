"""Sends the rest of an open file to a server by SFTP."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import IO

from paramiko import Channel, SFTPClient
from paramiko.sftp import SFTPError
from paramiko.ssh_exception import SSHException

from envsync.errors import ConnectionLost, EnvsyncError, NoSpace, TransferFailed
from envsync.ssh import connection_errors
from envsync.ssh.openssh_session import OpensshSession

_READ_BYTES = 1 << 20
_STATUS_SECONDS = 1.0


class SftpChannel:
    """A session of the system's `ssh` as the channel that `SFTPClient` needs."""

    def __init__(self, session: OpensshSession) -> None:
        self._session = session
        self.closed = False

    def send(self, data: bytes) -> int:
        self._session.write(data)
        return len(data)

    def recv(self, size: int) -> bytes:
        return self._session.read(size)

    def recv_ready(self) -> bool:
        return self._session.has_output()

    def why_ended(self) -> str | None:
        """Return what ended the server's sftp; None if the server did not say it."""
        status = self._session.exit_status(_STATUS_SECONDS)
        if status is not None:
            return f"exit status {status}"
        # ssh does not always pass on that the server refused the subsystem.
        return "it ended at once" if self._session.has_ended_alone else None

    def get_name(self) -> str:
        return "sftp"

    def close(self) -> None:
        self.closed = True
        self._session.close()


def send_file(
    channel: Channel | SftpChannel,
    server: str,
    source: IO[bytes],
    destination: bytes,
    progress: Callable[[int], None],
) -> None:
    """Send the rest of `source` over `channel`, on which sftp was granted.

    After any failure a prefix of the file is at `destination`. Raises `ConnectionLost`,
    `TransferFailed` or `NoSpace`.
    """
    has_begun = False
    try:
        with SFTPClient(channel) as sftp:  # type: ignore[arg-type]
            has_begun = True
            try:
                _write(sftp, source, destination, progress)
            except (OSError, SFTPError, SSHException, EOFError) as error:
                raise _translated(error, sftp, server, destination) from error
    except SFTPError as error:
        raise connection_errors.not_clean_for_sftp(server, error) from error
    except (OSError, SSHException, EOFError, ConnectionLost) as error:
        why_ended = None if has_begun else _why_ended(channel)
        if why_ended is not None:
            raise connection_errors.no_sftp(server, why_ended) from error
        if isinstance(error, ConnectionLost):
            raise
        raise connection_errors.lost(server, error) from error


def _why_ended(channel: Channel | SftpChannel) -> str | None:
    """Return what ended the server's sftp; None if that was not said, as when the link is lost."""
    if isinstance(channel, SftpChannel):
        return channel.why_ended()
    channel.status_event.wait(_STATUS_SECONDS)
    return None if channel.exit_status < 0 else f"exit status {channel.exit_status}"


def _write(
    sftp: SFTPClient,
    source: IO[bytes],
    destination: bytes,
    progress: Callable[[int], None],
) -> None:
    """Write the rest of `source` there, in order."""
    offset = source.tell()
    size = os.fstat(source.fileno()).st_size
    # "r+" never creates: if a resumed file has vanished, this fails instead of leaving a hole.
    with sftp.open(destination, "r+b" if offset else "wb") as remote:
        # Set before the first byte, so that the content never has another mode.
        remote.chmod(0o600)
        remote.set_pipelined(True)
        remote.seek(offset)
        while data := source.read(_READ_BYTES):
            if source.tell() >= size:
                # Waits for the result of every earlier write: paramiko discards the answers that
                # nobody waited for, even that of a full disk.
                remote.set_pipelined(False)
            remote.write(data)
            progress(len(data))
        remote.truncate(size)


def _translated(
    error: Exception, sftp: SFTPClient, server: str, destination: bytes
) -> EnvsyncError:
    channel = sftp.get_channel()
    if isinstance(error, (EOFError, TimeoutError)) or channel is None or channel.closed:
        return connection_errors.lost(server, error)
    path = os.fsdecode(destination)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpace(f"no space left for {path}", server=server)
    details = [connection_errors.reason_of(error)]
    if isinstance(error, OSError) and error.errno is None:
        details.append("sftp gives no reason: the disk may be full")
    return TransferFailed(f"{path} could not be written", details=details, server=server)
