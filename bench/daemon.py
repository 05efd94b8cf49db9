"""What the daemon costs, and how soon it acts, measured in the test lab.

    python -m bench.daemon                               60,000 entries, ten environments
    python -m bench.daemon --entries 10000 --bytes 100MB --installs 3
    python -m bench.daemon --long --installs 100         installs in a row, servers in trouble

Prints one line a figure, each beside its bar.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench import daemon_long
from bench.furnish import ground
from bench.ground import Ground, Size
from bench.memory import kilobytes
from bench.sizes import byte_count
from tests.integration.daemon.running import Daemon, published
from tests.integration.push.pip_process import start_pip

SETTLE_SECONDS, RESCAN_SECONDS, ENVIRONMENTS = 10.0, 20.0, 10
WAIT_SECONDS = 300.0
_TICKS = os.sysconf("SC_CLK_TCK")
_INVENTORY = """\
prefix: {prefix}
servers: {{server1: {{}}, server2: {{}}}}
environments:
{environments}
watch: {{settle: {settle}s, rescan: {rescan}s}}
"""
_ENVIRONMENT = "  {name}: {{source: server1, push_to: [server2], watch: true}}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.daemon", description=__doc__)
    parser.add_argument("--entries", type=int, default=60_000)
    parser.add_argument("--bytes", type=byte_count, default=byte_count("800MB"))
    parser.add_argument("--installs", type=int, default=10)
    parser.add_argument("--long", action="store_true")
    arguments = parser.parse_args()
    if arguments.long:
        sys.exit(0 if daemon_long.run(arguments.installs) else 1)
    size = Size(arguments.entries, arguments.bytes)
    with tempfile.TemporaryDirectory() as scratch, ground(size, "tmpfs", Path(scratch)) as made:
        print(f"an environment of {made.entries} entries, to one server; load {os.getloadavg()[0]}")
        _installs(made, arguments.installs)
        _many(made)


def _installs(made: Ground, installs: int) -> None:
    """From the end of each pip to the version that stands on the target."""
    daemon = Daemon(made.source, _inventory(made, ["myenv"], rescan_seconds=3600))
    with daemon:
        _wait_in_step(daemon, "")
        before = published(made.target)
        delays = []
        for number in range(installs):
            revision = str(daemon.source()["revision"])
            pip = start_pip(made.source, "install" if number % 2 == 0 else "uninstall",
                            *([] if number % 2 == 0 else ["--yes"]))  # fmt: skip
            _, err = pip.communicate(timeout=120)
            ended = time.time()
            assert pip.returncode == 0, err
            delays.append(_wait_in_step(daemon, revision) - ended - SETTLE_SECONDS)
        count = published(made.target) - before
        # At the first, the target has no version yet that it could bring forward.
        first, later = delays[0], delays[1:] or delays
        median, worst = statistics.median(later), max(later)
        print(f"end of pip -> published: settle + {median:.2f} s, worst {worst:.2f} s (bar 2 s)")
        print(f"the first, for which the target makes a tree: settle + {first:.2f} s")
        print(f"publishes for {installs} installs: {count}")
        print(f"resident after them: {_resident_mb(daemon):.1f} MB (bar 100 MB)")


def _many(made: Ground) -> None:
    """Ten environments: how soon it is ready, and what it uses with nothing to do."""
    names = ["myenv", *(f"other{number}" for number in range(1, ENVIRONMENTS))]
    envs = made.source.path(made.prefix / "envs")
    for name in names[1:]:
        subprocess.run(["cp", "-al", str(envs / "myenv"), str(envs / name)], check=True)
    daemon = Daemon(made.source, _inventory(made, names, rescan_seconds=RESCAN_SECONDS))
    began = time.monotonic()
    with daemon:
        ready = time.monotonic() - began
        print(f"ready with {len(names)} environments: {ready:.2f} s (bar 3 s)")
        daemon.command.ok("daemon", "pause")  # what it scans is what counts here
        while not all(source["revision"] for source in daemon.status()["environments"]):
            time.sleep(0.2)
        _rescans(daemon)
        print(f"resident: {_resident_mb(daemon):.1f} MB")


def _rescans(daemon: Daemon) -> None:
    rescan = list(_cpu_until_rescan(daemon, 3))
    cpu = statistics.median(rescan[1:])  # the first one found files too young to be remembered
    share = 100 * cpu / 3600
    print(f"a rescan of all: {cpu:.2f} CPU s (bar 4); at 1h that is {share:.3f} % (bar 0.1 %)")


def _cpu_until_rescan(daemon: Daemon, count: int) -> Iterator[float]:
    """The CPU seconds of the daemon and its children from one rescan to the next."""
    for _ in range(count):
        seen = [source["checked_seconds"] for source in daemon.status()["environments"]]
        before = _cpu_seconds(daemon.pid)
        deadline = time.monotonic() + WAIT_SECONDS
        while any(
            source["checked_seconds"] == old
            for source, old in zip(daemon.status()["environments"], seen, strict=True)
        ):
            assert time.monotonic() < deadline, daemon.log()
            time.sleep(1)
        while daemon.children():
            time.sleep(0.05)
        yield _cpu_seconds(daemon.pid) - before


def _inventory(made: Ground, names: list[str], rescan_seconds: float) -> str:
    environments = "\n".join(_ENVIRONMENT.format(name=name) for name in names)
    return _INVENTORY.format(
        prefix=made.prefix,
        environments=environments,
        settle=SETTLE_SECONDS,
        rescan=rescan_seconds,
    )


def _wait_in_step(daemon: Daemon, but: str) -> float:
    """When `myenv` was in step at another revision than that, by the wall clock."""
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        [row] = daemon.source()["servers"]
        if row["state"] == "in-step" and row["revision"] != but:
            return float(row["since_seconds"])
        assert time.monotonic() < deadline, daemon.log()
        time.sleep(0.2)  # what it answers with is not free


def _cpu_seconds(pid: int) -> float:
    """Of a process, and of its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:15]) / _TICKS


def _resident_mb(daemon: Daemon) -> float:
    return kilobytes(Path(f"/proc/{daemon.pid}/status").read_text(), "VmRSS") / 1000


if __name__ == "__main__":
    main()
