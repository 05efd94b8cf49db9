"""What a user has to log in with, and whether somebody tried to."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.lab.loopback_sshd import LoopbackSshd


def make_key(path: Path, passphrase: str = "", kind: str = "ed25519", *more: str) -> Path:
    argv = ["ssh-keygen", "-qt", kind, "-N", passphrase, "-f", str(path), *more]
    subprocess.run(argv, check=True)
    return path


def add_config(sshd: LoopbackSshd, *lines: str) -> None:
    config = sshd.home / ".ssh" / "config"
    config.write_text(config.read_text() + "".join(f"  {line}\n" for line in lines))


def other_key(directory: Path, kind: str = "ed25519") -> str:
    """A key that no server has, as it stands in known_hosts."""
    path = directory / f"other_{kind}"
    if not path.exists():
        subprocess.run(["ssh-keygen", "-qt", kind, "-N", "", "-f", path], check=True)
    return " ".join(Path(f"{path}.pub").read_text().split()[:2])


def no_attempt_to_log_in(sshd: LoopbackSshd) -> bool:
    return "Accepted" not in sshd.log and "Failed" not in sshd.log


def relay_in(home: Path) -> Path:
    """What `nc HOST PORT` does, which not every machine has."""
    relay = home / "relay"
    relay.write_text(
        "import socket, sys, threading, os\n"
        "s = socket.create_connection((sys.argv[1], int(sys.argv[2])))\n"
        "def pump(read, write):\n"
        "    while data := read(65536): write(data)\n"
        "threading.Thread(target=pump, daemon=True,\n"
        "                 args=(lambda n: os.read(0, n), s.sendall)).start()\n"
        "pump(s.recv, lambda data: os.write(1, data))\n"
    )
    return relay
