"""Measures the peak memory of both ends while a command runs, by sampling /proc."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.lab.host import Host

_EVERY_SECONDS = 0.05
_NOT_OURS = re.compile(r"^(sshd|nsenter|env |tar |find |cat )|host_init\.py|\bsshd\b.*-D")


@dataclass(slots=True)
class Peak:
    """The peak memory of one host.

    `total_mb` is the most that all processes had together, shared pages counted once.
    `largest_mb` is the most that one process had resident, `largest` its command line.
    """

    total_mb: float = 0.0
    largest_mb: float = 0.0
    largest: str = ""

    @property
    def megabytes(self) -> float:
        return max(self.total_mb, self.largest_mb)


class Sampler:
    def __init__(self, host: Host) -> None:
        self._host = host
        self.peak = Peak()

    def sample(self) -> None:
        total = 0.0
        for pid in self._host.processes():
            command = self._host.command_line(pid)
            if not command or _NOT_OURS.search(command):
                continue
            total += kilobytes(_text(pid, "smaps_rollup"), "Pss") / 1000
            highest = kilobytes(_text(pid, "status"), "VmHWM") / 1000
            if highest > self.peak.largest_mb:
                self.peak.largest_mb, self.peak.largest = highest, command[:60]
        self.peak.total_mb = max(self.peak.total_mb, total)


def kilobytes(text: str, name: str) -> int:
    """Return the value of a line `Name:   123 kB` of a /proc file; 0 if there is none."""
    found = re.search(rf"^{name}:\s+(\d+) kB$", text, re.MULTILINE)
    return 0 if found is None else int(found[1])


def resident_mb(pid: int) -> float:
    """Return the resident memory of a process in MB."""
    return kilobytes(_text(pid, "status"), "VmRSS") / 1000


def _text(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text()
    except OSError:
        return ""


@contextlib.contextmanager
def watched(*hosts: Host) -> Iterator[list[Peak]]:
    """Yield the peaks of the hosts, in order; they grow while the block runs."""
    samplers = [Sampler(host) for host in hosts]
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(_EVERY_SECONDS):
            for sampler in samplers:
                sampler.sample()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield [sampler.peak for sampler in samplers]
    finally:
        stop.set()
        thread.join()
