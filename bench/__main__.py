"""Speed of envsync as ratios measured side by side, in the test lab.

    python -m bench                                 everything, as docs/benchmarks.md shows it
    python -m bench --rows help,cold --repeat 5     some of it
    python -m bench --entries 5000 --bytes 60MB     a quick look

It needs what the tests need: pip install -e '.[dev]'.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from bench import report
from bench.contestants import Contestants
from bench.figures import Row
from bench.furnish import ground
from bench.ground import Ground, Size, Void
from bench.rows import KINDS, help_row
from bench.sizes import byte_count
from tests.lab import requirements

_HELP = "help"
_NAMES = (_HELP, *(kind.name for kind in KINDS))


def main() -> int:
    arguments = _parser().parse_args()
    missing = requirements.missing()
    if missing:
        print(f"the lab cannot start: {missing}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, _interrupt)
    started = time.monotonic()
    conditions = _conditions(arguments)
    rows: list[Row] = []
    void: list[str] = []
    status = 0
    try:
        for row in _measure(arguments, void):
            rows.append(row)
            print(report.table([row]).splitlines()[1], file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        print("interrupted: the hosts are gone", file=sys.stderr)
        status = 130
    conditions["load_after"] = os.getloadavg()
    conditions["minutes"] = round((time.monotonic() - started) / 60, 1)
    _print(rows, conditions)
    for line in void:
        print(f"no figure for {line}", file=sys.stderr)
    if arguments.json is not None:
        text = json.dumps(report.document(rows, conditions), indent=2) + "\n"
        arguments.json.write_text(text)
    return status or int(bool(void))


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="rows:\n" + "\n".join(f"  {kind.name:15}{kind.summary}" for kind in KINDS),
    )
    add = parser.add_argument
    add("--rows", type=_rows, default=_NAMES, help=f"of {','.join(_NAMES)} [all]")
    add("--entries", type=int, default=60_000, help="of the environment [60000]")
    add("--bytes", type=byte_count, default="800MB", help="of the environment [800MB]")
    add("--large-entries", type=int, default=200_000, help="of the large one [200000]")
    add("--large-bytes", type=byte_count, default="1200MB", help="of the large one [1200MB]")
    add("--repeat", type=int, default=3, help="runs of each, in turn; scp and conda-pack: 1 [3]")
    add("--storage", choices=("tmpfs", "ext4"), default="tmpfs", help="of the target [tmpfs]")
    add("--scratch", type=Path, default=tempfile.gettempdir(), help="for ext4: a directory on it")
    add("--json", type=Path, metavar="FILE", help="write everything that was measured")
    return parser


def _rows(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    for name in names:
        if name not in _NAMES:
            raise argparse.ArgumentTypeError(f"no row {name!r}; there are {', '.join(_NAMES)}")
    return names


def _measure(arguments: argparse.Namespace, void: list[str]) -> Iterator[Row]:
    """The rows asked for, as they are done; `void` takes those that could not be measured."""
    if _HELP in arguments.rows:
        yield help_row(arguments.repeat)
    sizes = {
        "main": Size(arguments.entries, arguments.bytes),
        "large": Size(arguments.large_entries, arguments.large_bytes),
    }
    for name, size in sizes.items():
        kinds = [kind for kind in KINDS if kind.name in arguments.rows and kind.size == name]
        if not kinds:
            continue
        print(f"an environment of {size.entries:,} entries is made ...", file=sys.stderr)
        with ground(size, arguments.storage, arguments.scratch) as made:
            _warm_up(made)
            for kind in kinds:
                try:
                    yield from kind.rows(made, arguments.repeat)
                except Void as reason:
                    void.append(f"{kind.name}: {reason}")


def _warm_up(made: Ground) -> None:
    """Programs and bytecode in the page cache, ssh's first login done."""
    make = Contestants(made)
    for contestant in (make.cold_push(), make.rsync(cold=True)):
        contestant.prepare()
        contestant.run()


def _conditions(arguments: argparse.Namespace) -> dict[str, Any]:
    rsync = subprocess.run(["rsync", "--version"], check=True, capture_output=True, text=True)
    return {
        "processors": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "rsync": rsync.stdout.splitlines()[0].split()[2],
        "storage": arguments.storage,
        "entries": arguments.entries,
        "bytes": arguments.bytes,
        "repeat": arguments.repeat,
        "load_before": os.getloadavg(),
    }


def _print(rows: Sequence[Row], conditions: dict[str, Any]) -> None:
    before, after = (conditions[name] for name in ("load_before", "load_after"))
    print(
        f"{conditions['processors']} processors, Linux {conditions['kernel']}, "
        f"Python {conditions['python']}, rsync {conditions['rsync']}, "
        f"target on {conditions['storage']}; {conditions['entries']:,} entries, "
        f"{conditions['bytes'] / 1e6:.0f} MB; {conditions['repeat']} runs each; "
        f"load {before[0]:.1f} before, {after[0]:.1f} after, {conditions['minutes']} min\n"
    )
    parts = {
        "Seconds of each step of a push (medians)": report.steps(rows),
        "Processor seconds, source + target (medians)": report.cpu(rows),
        "MB to the target + back (medians)": report.network(rows),
        "Notes": report.notes(rows),
    }
    print(report.table(rows))
    for title, part in parts.items():
        if part:
            print(f"\n{title}\n{part}")


if __name__ == "__main__":
    sys.exit(main())
