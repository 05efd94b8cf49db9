"""The demo's temporary directory, and the servers in it.

envsync.yaml   the inventory
home/          keys, known_hosts, ssh configuration and caches of the demo's user
miniconda3/    the prefix on this machine
server1/       that server's prefix, and its home
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from envsync.cli.demo.server import USER, Order, make_key
from envsync.errors import EnvsyncError
from envsync.ssh.fabric_link import open_route
from envsync.ssh.route import ResolvedRoute
from envsync.ssh.session import Address, Link, Timeouts

HERE = "here"
"""This machine's name in the demo's inventory."""

_END_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Machine:
    """A throwaway server; `prefix` is its conda's base directory as the server sees it."""

    name: str
    prefix: str
    port: int
    open_link: Callable[[], Link]

    def run(self, command: str) -> str:
        """Return what a shell command prints there; raises `EnvsyncError` if it fails."""
        with (
            contextlib.closing(self.open_link()) as link,
            contextlib.closing(link.run("exec /bin/sh -e")) as session,
        ):
            session.write(f"{command}\n".encode())
            session.close_stdin()
            said = b""
            while block := session.read(1 << 16):
                said += block
            status = session.exit_status(_END_SECONDS)
            if status == 0:
                return said.decode(errors="replace").strip()
            raise EnvsyncError(
                f"a command failed there, with exit status {status}",
                details=[command, *session.stderr_tail().splitlines()],
                server=self.name,
            )


@contextlib.contextmanager
def running(directory: Path, names: Sequence[str]) -> Iterator[list[Machine]]:
    """Run servers of these names until the block ends; their files stay in `directory`."""
    ssh = directory / "home" / ".ssh"
    ssh.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = ssh / "id_ecdsa"
    key.unlink(missing_ok=True)
    client_key = make_key(key)
    environ = surroundings(directory)
    orders = [_order(directory, name, client_key) for name in names]
    with contextlib.ExitStack() as stack:
        processes = [stack.enter_context(_server_process(order)) for order in orders]
        machines, known, config = [], "", ""
        for order, process in zip(orders, processes, strict=True):
            port, host_key = _hear(order.name, process)
            known += f"{host_key}\n"
            config += (
                f"Host {order.name}\n  HostName 127.0.0.1\n  Port {port}\n  User {USER}\n"
                "  IdentitiesOnly yes\n  IdentityFile ~/.ssh/id_ecdsa\n"
                # Nothing of this machine's may ask for the system's ssh.
                "  GSSAPIAuthentication no\n  GlobalKnownHostsFile none\n"
            )
            prefix, opener = str(directory / order.name), _opener(order.name, environ)
            machines.append(Machine(order.name, prefix, port, opener))
        (ssh / "known_hosts").write_text(known)
        (ssh / "config").write_text(config)
        yield machines


def _order(directory: Path, name: str, client_key: str) -> Order:
    home = directory / name / "home"
    home.mkdir(parents=True, exist_ok=True)
    make_prefix(directory / name)
    return Order(name=name, home=str(home), client_key=client_key)


def make_prefix(path: Path) -> None:
    """Make what envsync recognizes as a conda installation, with the Python that runs this."""
    (path / "envs").mkdir(parents=True, exist_ok=True)
    (path / "conda-meta").mkdir(exist_ok=True)
    (path / "conda-meta" / "history").touch()
    python = path / "bin" / "python"
    python.parent.mkdir(exist_ok=True)
    python.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
    python.chmod(0o755)


def surroundings(directory: Path) -> dict[str, str]:
    """Return the environment variables of the demo's user.

    It has a home of its own, with envsync's caches and state, and no ssh-agent.
    """
    others = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("ENVSYNC_", "SSH_", "XDG_"))
    }
    return {
        **others,
        "HOME": str(directory / "home"),
        # The hostname may be that of one of the demo's servers.
        "ENVSYNC_SELF": HERE,
    }


def inventory(prefix: Path, machines: Sequence[Machine]) -> str:
    """Return an inventory of these servers, and of this machine with its prefix."""
    lines = [f"prefix: {json.dumps(str(prefix))}", "servers:", f"  {HERE}: {{}}"]
    lines += [f"  {machine.name}: {{prefix: {json.dumps(machine.prefix)}}}" for machine in machines]
    return "\n".join(lines) + "\n"


def _opener(name: str, environ: Mapping[str, str]) -> Callable[[], Link]:
    address = Address(server=name, host=name)
    return lambda: open_route(ResolvedRoute.find(address, environ), Timeouts())


@contextlib.contextmanager
def _server_process(order: Order) -> Iterator[subprocess.Popen[str]]:
    """Start a server's process, send it `order`, and end it after the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "envsync.cli.demo.server"],
        cwd=order.home,  # with `-m`, modules are imported from there
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # Ctrl-C is for the demo, which then ends its servers.
        start_new_session=True,
    )
    try:
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(json.dumps(asdict(order)) + "\n")
            process.stdin.flush()
        yield process
    finally:
        end(process)


def _hear(name: str, process: subprocess.Popen[str]) -> tuple[int, str]:
    """Return the server's port and its known_hosts line once it listens."""
    assert process.stdout is not None
    answer = process.stdout.readline()
    if not answer:
        raise EnvsyncError("the demo's server did not start", server=name)
    document: dict[str, Any] = json.loads(answer)
    return document["port"], document["host_key"]


def end(process: subprocess.Popen[str]) -> None:
    """Close the process's pipes and wait for its end; it is killed if that takes too long."""
    for pipe in (process.stdin, process.stdout):
        with contextlib.suppress(OSError):
            if pipe is not None:
                pipe.close()
    try:
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
