"""Rounds of changes, drift, pushes, rollbacks and clean-ups in which somebody is killed.

    python -m bench.torture --seed 7 --rounds 300         two targets at once
    python -m bench.torture --replay 7:42                 the twelve rounds up to that one, told

A failure prints its seed and round. What a round does is replayed exactly; when a kill meets
its victim is a matter of microseconds, so a replay may have to be repeated.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench.ground import compile_envsync
from bench.torture.judge import Fallen
from bench.torture.lane import lane
from bench.torture.script import Round, draw
from bench.torture.tally import text, total
from tests.lab import requirements

REPLAYED_ROUNDS = 12
FAILURES_MAX = 20
TOLD_ROUNDS = 100


def main() -> int:
    arguments = _parser().parse_args()
    missing = requirements.missing()
    if missing:
        print(f"the lab cannot start: {missing}", file=sys.stderr)
        return 2
    if arguments.replay:
        seed, number = (int(part) for part in arguments.replay.split(":"))
        first = max(1, number - REPLAYED_ROUNDS + 1)
        documents = [_play(seed, first, number, arguments, verbose=True)]
    elif arguments.lanes == 1:
        documents = [_play(arguments.seed, 1, arguments.rounds, arguments, arguments.verbose)]
    else:
        compile_envsync()
        documents = _lanes(arguments)
    counts = total(documents)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(counts, indent=2) + "\n")
    if arguments.json is None or arguments.lanes > 1:
        print(text(counts), flush=True)
    return int(bool(counts["failures"]))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.torture",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--seed", type=int, default=1, help="of the first lane; the others count on [1]")
    add("--rounds", type=int, default=100, help="of all lanes together [100]")
    add("--lanes", type=int, default=2, help="targets at the same time [2]")
    add("--replay", metavar="SEED:ROUND", help="the rounds up to that one, each told")
    add("--storage", choices=("tmpfs", "disk"), default="tmpfs", help="of the target [tmpfs]")
    add("--scratch", type=Path, default=tempfile.gettempdir(), help="for disk: a directory on it")
    add("--json", type=Path, metavar="FILE", help="write the counts")
    add("--verbose", action="store_true", help="tell every round (one lane)")
    return parser


def _play(
    seed: int, first: int, last: int, arguments: argparse.Namespace, verbose: bool
) -> dict[str, Any]:
    """Play the rounds of one lane; after a failed round, the next is played in a new lab."""
    say = _say if verbose else _say_nothing
    rounds = iter(range(first, last + 1))
    documents = []
    for number in rounds:
        documents.append(_play_until_one_falls(draw(seed, number), rounds, arguments, say))
        if sum(len(document["failures"]) for document in documents) == FAILURES_MAX:
            break
    return {**total(documents), "seconds": sum(document["seconds"] for document in documents)}


def _play_until_one_falls(
    round_: Round, rounds: Iterator[int], arguments: argparse.Namespace, say: Callable[[str], None]
) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="torture-", dir=arguments.scratch) as scratch:
        directory = Path(scratch) if arguments.storage == "disk" else None
        with lane(directory, say) as playing:
            started = time.monotonic()
            try:
                playing.play(round_)
                for number in rounds:
                    round_ = draw(round_.seed, number)
                    playing.play(round_)
                    if number % TOLD_ROUNDS == 0:
                        _say(f"seed {round_.seed}: {number} rounds")
            except Fallen as fallen:
                playing.tally.failures.append(f"{fallen} (round {round_})")
                _say(f"FALLEN: {fallen}\n  in round {round_}")
            playing.tally.seconds = time.monotonic() - started
            playing.end()
            return playing.tally.to_json()


def _say(line: str) -> None:
    print(line, flush=True)


def _say_nothing(_: str) -> None:
    pass


def _lanes(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Run each lane in a process of its own, with its own lab; return their counts."""
    shares = [len(range(k, arguments.rounds, arguments.lanes)) for k in range(arguments.lanes)]
    with tempfile.TemporaryDirectory() as directory:
        paths = [Path(directory, str(number)) for number in range(arguments.lanes)]
        processes = [
            subprocess.Popen(
                [
                    *(sys.executable, "-m", "bench.torture", "--lanes", "1"),
                    *("--seed", str(arguments.seed + number), "--rounds", str(share)),
                    *("--storage", arguments.storage, "--scratch", str(arguments.scratch)),
                    *("--json", str(path)),
                ],
            )
            for number, (path, share) in enumerate(zip(paths, shares, strict=True))
        ]
        for process in processes:
            process.wait()
        return [_counts(path) for path in paths]


def _counts(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise RuntimeError("a lane did not end as it should, see above")
    document: dict[str, Any] = json.loads(path.read_text())
    return document


if __name__ == "__main__":
    sys.exit(main())
