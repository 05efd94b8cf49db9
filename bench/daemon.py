"""What the daemon costs, and how soon it acts, measured in the test lab.

    python -m bench.daemon                               60,000 entries, ten environments
    python -m bench.daemon --entries 10000 --bytes 100MB --installs 3
    python -m bench.daemon --long --installs 100         installs in a row, servers in trouble
    python -m bench.daemon --span 65m --bytes 100MB      an hour with nothing to do, and its rescan

Prints one line a figure, each beside its bar.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from bench import daemon_idle, daemon_long
from bench.daemon_idle import SETTLE_SECONDS, WAIT_SECONDS
from bench.furnish import ground
from bench.ground import Ground, Size
from bench.memory import resident_mb
from bench.sizes import byte_count
from envsync.inventory import duration_seconds
from tests.integration.daemon.running import Daemon, published, wait_spare
from tests.integration.push.pip_process import start_pip


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.daemon", description=__doc__)
    parser.add_argument("--entries", type=int, default=60_000)
    parser.add_argument("--bytes", type=byte_count, default=byte_count("800MB"))
    parser.add_argument("--installs", type=int, default=10)
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--span", type=duration_seconds, help="ten environments at `rescan: 1h`")
    arguments = parser.parse_args()
    if arguments.long:
        sys.exit(0 if daemon_long.run(arguments.installs) else 1)
    size = Size(arguments.entries, arguments.bytes)
    with tempfile.TemporaryDirectory() as scratch, ground(size, "tmpfs", Path(scratch)) as made:
        print(f"an environment of {made.entries} entries, to one server; load {os.getloadavg()[0]}")
        if arguments.span is not None:
            daemon_idle.span(made, arguments.span)
            return
        _installs(made, arguments.installs)
        daemon_idle.rescans(made)


def _installs(made: Ground, installs: int) -> None:
    """Measure the time from the end of each pip to the new version on the target."""
    daemon = Daemon(made.source, daemon_idle.inventory(made, ["myenv"], rescan_seconds=3600))
    with daemon:
        _wait_in_step(daemon, "")
        wait_spare(made.target, timeout_seconds=WAIT_SECONDS)
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
        median, worst = statistics.median(delays), max(delays)
        print(f"end of pip -> published: settle + {median:.2f} s, worst {worst:.2f} s (bar 2 s)")
        print(f"the first, on the tree that was made ahead: settle + {delays[0]:.2f} s")
        print(f"publishes for {installs} installs: {count}")
        print(f"resident after them: {resident_mb(daemon.pid):.1f} MB (bar 100 MB)")


def _wait_in_step(daemon: Daemon, but: str) -> float:
    """Wait until `myenv` is in step at a revision other than `but`; return the wall-clock time."""
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        [row] = daemon.source()["servers"]
        if row["state"] == "in-step" and row["revision"] != but:
            return float(row["since_seconds"])
        assert time.monotonic() < deadline, daemon.log()
        time.sleep(0.2)  # answering costs the daemon time


if __name__ == "__main__":
    main()
