"""A real OpenSSH sshd on 127.0.0.1, with its own keys, users' files and HOME.

It needs no root and touches no file outside its directory, except that sshd as root needs
/run/sshd, which is created.
"""

from __future__ import annotations

import atexit
import contextlib
import getpass
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from envsync.ssh.session import Address

if TYPE_CHECKING:
    from typing_extensions import Self

_START_SECONDS = 10.0
_PORTS = range(15_000, 30_000)  # outgoing connections get 32768 and up
_CLAIMS = contextlib.ExitStack()
atexit.register(_CLAIMS.close)


class LoopbackSshd:
    """An sshd that a client whose HOME is `sshd.home` can log in to; use it in a `with`.

    Several servers can share one HOME: give the second one `home=first.home`. Each adds itself
    to the HOME's known_hosts (unless `known=False`) and ssh configuration, as `name`.
    """

    def __init__(
        self,
        directory: Path,
        *,
        name: str = "loopback",
        home: Path | None = None,
        known: bool = True,
        sftp: str | None = "internal-sftp",
        host_key_types: Sequence[str] = ("ed25519",),
        extra_config: Sequence[str] = (),
        port: int | None = None,
    ) -> None:
        self.directory = directory / f"sshd-{name}"
        self.directory.mkdir(parents=True, exist_ok=True)
        self.name = name
        self.home = directory / "home" if home is None else home
        self.port = port or free_port()
        # The HOME of commands that run on the server.
        self.server_home = self.directory / "server-home"
        self.server_home.mkdir(exist_ok=True)
        self.user = getpass.getuser()
        self.client_key = self.home / ".ssh" / "id_ed25519"
        self._sftp = sftp
        self._extra_config = extra_config
        self._process: subprocess.Popen[bytes] | None = None
        self.host_keys = [self._make_key(f"host_{kind}", kind) for kind in host_key_types]
        self._prepare_home()
        if known:
            self.make_known()

    @property
    def environ(self) -> dict[str, str]:
        """The variables that a client needs: HOME and PATH, but no ssh agent."""
        return {"HOME": str(self.home), "PATH": os.environ["PATH"]}

    @property
    def address(self) -> Address:
        return Address(server=self.name, host=self.name)

    @property
    def known_hosts(self) -> Path:
        return self.home / ".ssh" / "known_hosts"

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text(errors="replace")

    @property
    def authorized_keys(self) -> Path:
        return self.directory / "authorized_keys"

    def host_key_lines(self) -> list[str]:
        """Return lines for known_hosts, one for each host key."""
        publics = [Path(f"{key}.pub").read_text().split()[:2] for key in self.host_keys]
        return [f"[127.0.0.1]:{self.port} {kind} {blob}" for kind, blob in publics]

    def make_known(self) -> None:
        with self.known_hosts.open("a") as file:
            file.writelines(f"{line}\n" for line in self.host_key_lines())

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        command = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
        if command is None:
            raise RuntimeError("no sshd: apt-get install openssh-server")
        config = self.directory / "sshd_config"
        config.write_text("\n".join(self._config_lines()) + "\n")
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [command, "-D", "-e", "-f", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={"PATH": os.environ["PATH"]},
                start_new_session=True,
            )
        self._wait_until_it_listens(self._process)

    def stop(self) -> None:
        """End the server, its sessions and their descendants."""
        process, self._process = self._process, None
        if process is None:
            return
        descendants = list(_descendants(process.pid))
        process.terminate()
        process.wait(_START_SECONDS)
        for pid in descendants:
            _kill(pid)

    def cut(self) -> int:
        """Kill the processes that hold connections, and return how many they were.

        The server goes on listening. The commands of the sessions are not killed, but see their
        stdin end, as when a link breaks.
        """
        process = self._process
        if process is None:
            return 0
        sessions = [pid for pid in _descendants(process.pid) if _name(pid).startswith("sshd")]
        for pid in sessions:
            _kill(pid)
        return len(sessions)

    def session_pids(self) -> list[int]:
        """Return sshd's processes that hold a connection, for tests that suspend them."""
        process = self._process
        pids = [] if process is None else list(_descendants(process.pid))
        return [pid for pid in pids if _name(pid).startswith("sshd")]

    def _config_lines(self) -> list[str]:
        # Of most keywords the first value wins; of MaxStartups in old versions, the last.
        is_given = any(line.startswith("MaxStartups ") for line in self._extra_config)
        return [
            *([] if is_given else ["MaxStartups 100"]),
            *self._extra_config,
            # OpenSSH's own first choice takes 0.1 s of CPU time on each side.
            "KexAlgorithms curve25519-sha256,curve25519-sha256@libssh.org",
            # Not the user's own, whose ~/.bashrc would run before every command.
            f"SetEnv HOME={self.server_home}",
            "ListenAddress 127.0.0.1",
            f"Port {self.port}",
            *(f"HostKey {key}" for key in self.host_keys),
            f"AuthorizedKeysFile {self.authorized_keys}",
            f"PidFile {self.directory / 'pid'}",
            "UsePAM no",
            "StrictModes no",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "PermitRootLogin yes",
            *([] if self._sftp is None else [f"Subsystem sftp {self._sftp}"]),
        ]

    def _prepare_home(self) -> None:
        ssh = self.home / ".ssh"
        ssh.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.known_hosts.touch()
        if not self.client_key.exists():
            _keygen(self.client_key, "ed25519")
        shutil.copy(f"{self.client_key}.pub", self.authorized_keys)
        with (ssh / "config").open("a") as file:
            file.write(f"Host {self.name}\n  HostName 127.0.0.1\n  Port {self.port}\n")

    def _make_key(self, name: str, kind: str) -> Path:
        path = self.directory / name
        if not path.exists():
            _keygen(path, kind)
        return path

    def _wait_until_it_listens(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise RuntimeError(f"sshd ended:\n{self.log}")
            if f"Server listening on 127.0.0.1 port {self.port}" in self.log:
                return
            time.sleep(0.01)
        raise RuntimeError(f"sshd does not listen:\n{self.log}")


def free_port() -> int:
    """Return a port of 127.0.0.1 on which nothing listens, and reserve it for this process.

    The kernel does not use these ports for outgoing connections, and a socket name held by this
    process keeps the other test processes away from it.
    """
    for port in random.sample(_PORTS, len(_PORTS)):
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0envsync-tests-port-{port}")
            with socket.socket() as sock:
                sock.bind(("127.0.0.1", port))
        except OSError:
            claim.close()
        else:
            _CLAIMS.enter_context(claim)
            return port
    raise RuntimeError("every port is taken")


def _keygen(path: Path, kind: str) -> None:
    subprocess.run(
        ["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", path.name, "-f", str(path)],
        check=True,
        stdin=subprocess.DEVNULL,
    )


def _descendants(pid: int) -> Iterator[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return
    for child in children:
        yield int(child)
        yield from _descendants(int(child))


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
