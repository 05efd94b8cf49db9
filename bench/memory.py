"""Peak memory of both ends while a command runs, by sampling /proc."""

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
    """`total_mb`: the most that all processes had together, shared pages counted once;
    `largest_mb`: the most that one had resident, and which one that was."""

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
    """A line `Name:   123 kB` of a file in /proc; 0 where there is none."""
    found = re.search(rf"^{name}:\s+(\d+) kB$", text, re.MULTILINE)
    return 0 if found is None else int(found[1])


def resident_mb(pid: int) -> float:
    """What a process has resident now."""
    return kilobytes(_text(pid, "status"), "VmRSS") / 1000


def _text(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text()
    except OSError:
        return ""


@contextlib.contextmanager
def watched(*hosts: Host) -> Iterator[list[Peak]]:
    """Peaks of the hosts, in their order, of what runs within the block."""
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
