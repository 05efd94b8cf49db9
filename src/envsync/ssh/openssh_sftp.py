"""A session of the system's `ssh` as the channel that paramiko's SFTP needs."""

from __future__ import annotations

from envsync.ssh.openssh_session import OpensshSession


class SftpChannel:
    """A channel for `SFTPClient`; closing that ends the session."""

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

    def get_name(self) -> str:
        return "sftp"

    def close(self) -> None:
        self.closed = True
        self._session.close()
