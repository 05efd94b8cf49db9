"""Measures the idle daemon with ten environments: during a rescan, and over an hour.

Run by `python -m bench.daemon`, and over an hour by `python -m bench.daemon --span 65m`.
"""

from __future__ import annotations

import contextlib
import os
import socket
import statistics
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from bench.ground import Ground
from bench.memory import resident_mb
from tests.integration.daemon.running import Daemon

ENVIRONMENTS, SETTLE_SECONDS = 10, 10.0
WAIT_SECONDS = 300.0
_RESCAN_SECONDS, _SPAN_RESCAN_SECONDS = 20.0, 3600.0
_FIRST_PUSHES_SECONDS = 1800.0
_TICKS = os.sysconf("SC_CLK_TCK")
# As in the shipped units; a daemon with a watchdog wakes up more often.
_WATCHDOG_SECONDS = 60
_NOTIFY_SOCKET = "/run/lab/notify"
_INVENTORY = """\
prefix: {prefix}
servers: {{server1: {{}}, server2: {{}}}}
environments:
{environments}
watch: {{settle: {settle}s, rescan: {rescan}s}}
"""
_ENVIRONMENT = "  {name}: {{source: server1, push_to: [server2], watch: true}}"


def inventory(made: Ground, names: list[str], rescan_seconds: float) -> str:
    environments = "\n".join(_ENVIRONMENT.format(name=name) for name in names)
    return _INVENTORY.format(
        prefix=made.prefix,
        environments=environments,
        settle=SETTLE_SECONDS,
        rescan=rescan_seconds,
    )


# A rescan


def rescans(made: Ground) -> None:
    """Measure how soon the daemon is ready, and the cost of some rescans in a row."""
    with _started(made, _RESCAN_SECONDS) as daemon:
        daemon.command.ok("daemon", "pause")  # only scans are measured here
        while not all(source["revision"] for source in daemon.status()["environments"]):
            time.sleep(0.2)
        rescan = list(_cpu_until_rescan(daemon, 3))
        cpu = statistics.median(rescan[1:])  # during the first, files were too young to be cached
        share = 100 * cpu / 3600
        print(f"a rescan of all: {cpu:.2f} CPU s (bar 4); at 1h that is {share:.3f} % (bar 0.1 %)")
        print(f"resident: {resident_mb(daemon.pid):.1f} MB")


@contextlib.contextmanager
def _started(made: Ground, rescan_seconds: float) -> Iterator[Daemon]:
    """Yield a daemon that is ready, with ten environments."""
    names = ["myenv", *(f"other{number}" for number in range(1, ENVIRONMENTS))]
    envs = made.source.path(made.prefix / "envs")
    for name in names[1:]:
        subprocess.run(["cp", "-al", str(envs / "myenv"), str(envs / name)], check=True)
    daemon = Daemon(made.source, inventory(made, names, rescan_seconds))
    with _under_a_watchdog(daemon):
        began = time.monotonic()
        with daemon:
            ready = time.monotonic() - began
            print(f"ready with {len(names)} environments: {ready:.2f} s (bar 3 s)", flush=True)
            yield daemon


@contextlib.contextmanager
def _under_a_watchdog(daemon: Daemon) -> Iterator[None]:
    """Set up the watchdog, and receive and discard what the daemon sends to systemd."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(daemon.host.path(_NOTIFY_SOCKET)))
        daemon.command.environment["NOTIFY_SOCKET"] = _NOTIFY_SOCKET
        daemon.command.environment["WATCHDOG_USEC"] = str(_WATCHDOG_SECONDS * 1_000_000)

        def listen() -> None:
            while listener.recv(4096):
                pass

        thread = threading.Thread(target=listen)
        thread.start()
        try:
            yield
        finally:
            listener.sendto(b"", listener.getsockname())  # an empty message ends the thread
            thread.join()


def _cpu_until_rescan(daemon: Daemon, count: int) -> Iterator[float]:
    """Yield the CPU seconds of the daemon and its children from one rescan to the next."""
    for _ in range(count):
        seen = _checked(daemon)
        before = _spent(daemon.pid)
        deadline = time.monotonic() + WAIT_SECONDS
        while not _all_later(_checked(daemon), seen):
            assert time.monotonic() < deadline, daemon.log()
            time.sleep(1)
        _wait_children(daemon)
        yield _spent(daemon.pid).total - before.total


# An hour


def span(made: Ground, seconds: float) -> None:
    """Measure the average cost while everything is in step and nothing changes."""
    with _started(made, _SPAN_RESCAN_SECONDS) as daemon:
        _wait_all_in_step(daemon)
        _wait_children(daemon)
        seen, resident = _checked(daemon), resident_mb(daemon.pid)
        before, began = _spent(daemon.pid), time.monotonic()
        print(f"all in step; the span begins, load {os.getloadavg()[0]}", flush=True)
        # No status requests meanwhile, because answering costs the daemon time.
        time.sleep(seconds)
        _wait_children(daemon)
        after, took = _spent(daemon.pid), time.monotonic() - began
        assert _all_later(_checked(daemon), seen), "no rescan of all was within the span"
        own, below = after.own - before.own, after.children - before.children
        share = 100 * (own + below) / took
        print(f"over {took:.0f} s with a rescan: {share:.4f} % of a core (bar 0.1 %)")
        print(f"of these {own + below:.2f} CPU s the daemon itself {own:.2f}, children {below:.2f}")
        print(f"resident: {resident:.1f} MB, after it {resident_mb(daemon.pid):.1f} MB")


def _wait_all_in_step(daemon: Daemon) -> None:
    deadline = time.monotonic() + _FIRST_PUSHES_SECONDS
    while any(
        row["state"] != "in-step"
        for source in daemon.status()["environments"]
        for row in source["servers"]
    ):
        assert time.monotonic() < deadline, daemon.log()
        time.sleep(2)


def _wait_children(daemon: Daemon) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while daemon.children():
        assert time.monotonic() < deadline, daemon.log()
        time.sleep(0.05)


def _checked(daemon: Daemon) -> list[float]:
    """Return when each source was last scanned."""
    return [source["checked_seconds"] for source in daemon.status()["environments"]]


def _all_later(now: list[float], then: list[float]) -> bool:
    return all(later > earlier for later, earlier in zip(now, then, strict=True))


class _Spent(NamedTuple):
    """CPU seconds of a process, and of its ended descendants."""

    own: float
    children: float

    @property
    def total(self) -> float:
        return self.own + self.children


def _spent(pid: int) -> _Spent:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    user, system, of_children, system_of_children = (int(field) for field in fields[11:15])
    return _Spent((user + system) / _TICKS, (of_children + system_of_children) / _TICKS)
