"""The place of the measurements: two hosts of the lab, and a large environment on the first."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.figures import Sample
from envsync.agent.trees.tree_caches import cache_start
from tests.conda import ENVIRONMENT
from tests.lab.host import CHECKOUT, INTERFACE, Host
from tests.lab.lab import Lab, LabHost
from tests.support.processes import wait_until

# Time limit of any single run; a slow peer at 200 Mbit/s needs minutes.
RUN_SECONDS_MAX = 1800.0
EXIT_DRIFT = 11
_QUIET_SECONDS_MAX = 60.0
ELSEWHERE = "elsewhere"
"""The name of the target with another prefix."""
FAR_AWAY = "far-away"
"""The name of the target behind a relay that delays every byte."""


@dataclass(frozen=True, slots=True)
class Size:
    entries: int
    total_bytes: int


class Void(RuntimeError):
    """A run did something else than what was to be measured, so there is no figure."""


class Ground:
    """The two hosts: `source` has the environment, `target` has a base prefix.

    The programs other than envsync copy to the directory `peers` on the target.
    """

    def __init__(self, lab: Lab, storage: str) -> None:
        self.storage = storage
        self.entries = 0
        self.source: LabHost = lab.controller
        [self.target] = lab.targets
        self._lab = lab
        self.prefix = Path(self.source.prefix)
        self.environment = self.prefix / "envs" / ENVIRONMENT
        # Some characters longer, as another user's would be.
        self.other_prefix = self.prefix.parent / "robert" / "miniconda3"
        self.peers = self.prefix.parent.parent / "peers"
        # An empty value lets Python write and use bytecode, as after `pip install`.
        self._variables = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPATH": str(CHECKOUT / "src")}

    @property
    def peer_tree(self) -> Path:
        """The path on the target to which rsync, tar, scp and conda-pack copy the environment."""
        return self.peers / ENVIRONMENT

    def timed(self, argv: Sequence[str], exits: Sequence[int] = (0,)) -> Sample:
        """Run a command on the source and time it; `Void` if it does not end as expected."""
        before, moved = self._cpu_seconds(), self.network_bytes()
        started = time.perf_counter()
        process = self.source.popen(argv, env=self._variables)
        try:
            out, err = process.communicate(timeout=RUN_SECONDS_MAX)
        except BaseException as error:
            # Not waited for, because the rest of a pipeline goes on until the host ends.
            process.kill()
            if isinstance(error, subprocess.TimeoutExpired):
                raise Void(f"{' '.join(argv)} did not end") from error
            raise
        seconds = time.perf_counter() - started
        if process.returncode not in exits:
            tail = (err.strip() or out.strip())[-800:].decode(errors="replace")
            raise Void(f"{' '.join(argv)} ended with {process.returncode}: {tail}")
        self.wait_until_quiet()
        spent = {
            side: round(after - before[side], 3) for side, after in self._cpu_seconds().items()
        }
        details = {
            "exit_code": process.returncode,
            "stdout": out.decode(),
            "cpu_seconds": spent,
            "network_bytes": {
                way: after - moved[way] for way, after in self.network_bytes().items()
            },
        }
        return Sample(seconds, details)

    def size_bytes(self) -> int:
        """Return the size of all files of the environment, hard links counted each time."""
        found = os.walk(self.source.path(self.environment))
        paths = (Path(directory, name) for directory, _, names in found for name in names)
        return sum(path.lstat().st_size for path in paths)

    def network_bytes(self) -> dict[str, int]:
        """Return the bytes that went over the target's interface so far, in each direction."""
        lines = Path(f"/proc/{self.target.namespaces.pid}/net/dev").read_text().splitlines()
        [found] = (line for line in lines if line.strip().startswith(f"{INTERFACE}:"))
        fields = found.partition(":")[2].split()
        return {"there": int(fields[0]), "back": int(fields[8])}

    def _cpu_seconds(self) -> dict[str, float]:
        """Return the CPU seconds of all ended processes of each host.

        On the source they were children of this process; on the target children of sshd, or
        orphans, which PID 1 reaped.
        """
        ours = resource.getrusage(resource.RUSAGE_CHILDREN)
        parents = (self.target.sshd_pid(), self.target.namespaces.pid)
        return {
            "source": ours.ru_utime + ours.ru_stime,
            "target": sum(_ticks(pid) for pid in parents) / os.sysconf("SC_CLK_TCK"),
        }

    def wait_until_quiet(self) -> None:
        """Wait until only sshd is left on the target, so that the sessions' CPU time is counted."""
        wait_until(
            lambda: len(self.target.processes()) <= 1,
            "the target is quiet",
            timeout_seconds=_QUIET_SECONDS_MAX,
        )

    def push(
        self,
        *options: str,
        exits: Sequence[int] = (0,),
        server: str = "",
        environment: str = ENVIRONMENT,
    ) -> Sample:
        """Run and time `envsync push`; the details include those of its JSON document."""
        sample = self.timed([*self.push_command(server, environment), *options], exits)
        measured = {name: sample.details[name] for name in ("cpu_seconds", "network_bytes")}
        return Sample(sample.seconds, {**_told(sample.details["stdout"]), **measured})

    def push_command(self, server: str = "", environment: str = ENVIRONMENT) -> list[str]:
        return [*envsync_command(), "push", environment, server or self.target.name, "--json"]

    @contextlib.contextmanager
    def delayed(self, round_trip_seconds: float) -> Iterator[str]:
        """Yield a server name by which the target has this round-trip time."""
        with self._lab.relay(self.target.name, delay_seconds=round_trip_seconds / 2):
            yield FAR_AWAY

    @contextlib.contextmanager
    def limited(self, rate: str) -> Iterator[None]:
        """Limit the link's rate within the block; `rate` is in the notation of tc."""
        self.target.limit(rate)
        try:
            yield
        finally:
            self.target.unlimit()

    def remove_pushed(self) -> None:
        """Remove all that envsync has published on the target, and its caches on both hosts."""
        state = [
            prefix / "envs" / name
            for prefix in (self.prefix, self.other_prefix)
            for name in (".envsync", ENVIRONMENT)
        ]
        self._remove(self.target, [*state, *_memory(self.target)])
        self.forget_source()

    def forget_source(self) -> None:
        """Remove envsync's caches and state on the source."""
        self._remove(self.source, _memory(self.source))

    def forget_tree(self, environment: str) -> None:
        """Remove what the content cache on the source has about one environment."""
        top = self.source.path(self.prefix / "envs" / environment).stat()
        content, _ = _memory(self.source)
        directory = self.source.path(content / "content")
        tree = cache_start(str(directory), (top.st_dev, top.st_ino))
        for path in directory.iterdir():
            if str(path).startswith(str(tree)):
                path.unlink()

    def remove_published(self, environment: str) -> None:
        """Remove an environment and all its generations from the target."""
        envs = self.prefix / "envs"
        self._remove(self.target, [envs / environment, envs / ".envsync" / environment])

    def remove_peers(self) -> None:
        self._remove(self.target, [self.peers])
        self.target.run(["mkdir", "-p", str(self.peers)])

    def _remove(self, host: Host, paths: Sequence[Path]) -> None:
        host.run(["rm", "-rf", *map(str, paths)], timeout_seconds=300)

    def settle(self) -> None:
        """Flush the writes of earlier runs to the target's disk."""
        self.target.run(["sync", "-f", str(self.prefix)], timeout_seconds=600)

    def count(self, tree: Path) -> int:
        """Return the number of entries below `tree` on the target."""
        done = self.target.run(
            ["sh", "-c", 'find "$1" -mindepth 1 -printf . | wc -c', "sh", str(tree)],
            timeout_seconds=300,
        )
        return int(done.stdout)

    @contextlib.contextmanager
    def flipped_byte(self, tree: Path) -> Iterator[None]:
        """Change one byte of a module on the target within the block, but not its mtime."""
        self._flip(tree)
        try:
            yield
        finally:
            self._flip(tree)

    def _flip(self, tree: Path) -> None:
        path = self.target.path(_module(tree))
        status = path.stat()
        with path.open("r+b") as file:
            file.seek(status.st_size // 2)
            [byte] = file.read(1)
            file.seek(status.st_size // 2)
            file.write(bytes([byte ^ 1]))
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    def install_wheel(self, version: str) -> None:
        """Change the source as `pip install -U` of a package of 24 files does."""
        code = (
            "import sys; from pathlib import Path; from tests.conda import install_wheel; "
            "text = (sys.argv[2] * 400).encode(); "
            "files = {f'lab_speed/part_{n:02d}.py': b'text = %r' % text for n in range(10)}; "
            "install_wheel(Path(sys.argv[1]), 'lab-speed', sys.argv[2], files)"
        )
        self.source.python(code, str(self.environment), version, timeout_seconds=120)


def _ticks(pid: int) -> int:
    """Return the CPU time, in clock ticks, of a process and of the children that it waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:15])


def _told(stdout: str) -> dict[str, Any]:
    document = json.loads(stdout)
    error = document["error"] or {}
    result = document["result"] or {}
    servers = result.get("servers") or [{}]
    wanted = ("outcome", "transport", "wire_bytes", "step_seconds", "seconds")
    told = {name: servers[0][name] for name in wanted if servers[0].get(name)}
    return {"exit_code": document["exit_code"], "error": error.get("code"), **told}


def _memory(host: Host) -> list[Path]:
    home = Path(host.home())
    return [home / ".cache" / "envsync", home / ".local" / "state" / "envsync"]


def _module(tree: Path) -> str:
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return str(tree / "lib" / version / "site-packages" / "bulk_0001" / "module_05.py")


def envsync_command() -> list[str]:
    return [str(Path(sys.executable).with_name("envsync"))]


def compile_envsync() -> None:
    """Compile envsync's bytecode as pip does, even if this process must write none."""
    command = [sys.executable, "-m", "compileall", "-q", str(CHECKOUT / "src")]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def variables_on_this_machine() -> Mapping[str, str]:
    """Return the environment variables of `Ground.timed` for commands run outside the lab."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return {**environ, "PYTHONPATH": str(CHECKOUT / "src")}
