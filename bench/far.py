"""Rows about the link: with a long delay, cut during a push, and already open."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.contestants import Contestant, Contestants, alternate
from bench.figures import Bar, Measured, Row, Sample
from bench.ground import Ground, Void
from tests.support.processes import wait_until

_RATE, _LABEL = "200mbit", "200 Mbit/s"
_ROUND_TRIPS_SECONDS = {0.02: 1.2, 0.1: 1.4}
"""Round-trip times, and for each how many times as long a cold push may take."""
_SLOW_RATE = "40mbit"
_CUT_AT = 0.6
_CUT_WITHIN = (0.1, 0.9)
_SENT_AGAIN_MAX = 0.45
_CUT_SECONDS_MAX = 900.0
_IN_SESSION = Path(__file__).with_name("in_session.py")


def distance(ground: Ground, repeat: int) -> Iterator[Row]:
    """Compare cold pushes at several delays; all use the relay, so that nothing else differs."""
    make = Contestants(ground)

    def contestant(round_trip_seconds: float) -> Contestant:
        def run() -> Sample:
            with ground.delayed(round_trip_seconds) as server:
                return make.pushed("pushed", server=server)

        return Contestant(f"envsync, {round_trip_seconds * 1000:.0f} ms", run, make.cold_start)

    with ground.limited(_RATE):
        near, *far = alternate([contestant(rtt) for rtt in (0.0, *_ROUND_TRIPS_SECONDS)], repeat)
    for measured, (rtt, bar) in zip(far, _ROUND_TRIPS_SECONDS.items(), strict=True):
        yield Row(f"cold, {_LABEL}, {rtt * 1000:.0f} ms", measured, near, Bar("at most", bar))


def resume(ground: Ground, repeat: int) -> Iterator[Row]:
    """Measure what a resumed push sends, relative to an uninterrupted one."""
    make = Contestants(ground)
    cuts: list[str] = []

    def sent_bytes(before: int) -> int:
        return ground.network_bytes()["there"] - before

    with ground.limited(_RATE):
        make.cold_start()
        before = ground.network_bytes()["there"]
        make.pushed("pushed")
        whole_bytes = sent_bytes(before)

        def cut() -> None:
            make.cold_start()
            before = ground.network_bytes()["there"]
            share = _push_and_cut(ground, lambda: sent_bytes(before) / whole_bytes)
            sent = sent_bytes(before) / whole_bytes
            cuts.append(f"{sent:.0%} of the bytes sent, {share:.0%} of the contents there")

        resumed = Contestant("envsync, resumed", lambda: make.pushed("pushed"), cut)
        ours, whole = alternate([resumed, make.cold_push()], repeat)
    note = "when it was cut: " + ", ".join(cuts)
    bar = Bar("at most", _SENT_AGAIN_MAX)
    yield Row("resumed after a cut", ours.sent(), whole.sent(), bar, note)


def _push_and_cut(ground: Ground, sent_share: Callable[[], float]) -> float:
    """Kill a push in its largest file once enough was sent; return the share that arrived."""
    path, size_bytes, before_bytes = _largest(ground)
    low, high = (round(share * size_bytes) for share in _CUT_WITHIN)
    staged = f"envs/.envsync/{ground.environment.name}/trees/*/{path}"

    def there() -> int:
        found = ground.target.path(ground.prefix).glob(staged)
        return sum(file.stat().st_size for file in found)

    def is_enough() -> bool:
        return there() >= high or (there() >= low and sent_share() >= _CUT_AT)

    process = ground.source.popen(ground.push_command())
    try:
        wait_until(there, "the largest file", timeout_seconds=_CUT_SECONDS_MAX)
        # So slow that the file has not arrived whole before the link is cut.
        ground.target.limit(_SLOW_RATE)
        wait_until(is_enough, "the cut", timeout_seconds=_CUT_SECONDS_MAX)
    finally:
        # Cut the link first, or what is in flight would still arrive.
        ground.target.cut()
        process.kill()
        process.communicate()
        ground.target.restore()
        ground.target.limit(_RATE)
    ground.wait_until_quiet()
    reached = there()
    if not 0 < reached < size_bytes:
        raise Void(f"{reached} of the largest file's {size_bytes} bytes were there after the cut")
    return (before_bytes + reached) / ground.size_bytes()


def _largest(ground: Ground) -> tuple[str, int, int]:
    """Return the largest file's path and size, and how many bytes are sent before it."""
    top = ground.source.path(ground.environment)
    files = sorted(
        (os.fsencode(path.relative_to(top)), path.stat().st_size)
        for path in top.rglob("*")
        if path.is_file() and not path.is_symlink()
    )
    path, size_bytes = max(files, key=lambda file: file[1])
    return os.fsdecode(path), size_bytes, sum(size for other, size in files if other < path)


def in_session(ground: Ground, repeat: int) -> Iterator[Row]:
    """Push as the daemon does: connecting, importing and the agent's start are not timed."""
    make = Contestants(ground)
    for contestant in (make.cold_push(), make.rsync(cold=True), make.push_in_step()):
        contestant.prepare()
        contestant.run()
    peer = make.rsync(cold=False)
    samples: list[Sample] = []
    others: list[Sample] = []
    for _ in range(repeat):
        argv = [sys.executable, str(_IN_SESSION), ground.environment.name, ground.target.name]
        told = json.loads(ground.timed(argv).details["stdout"])
        if any(turn["outcome"] != "in-step" for turn in told):
            raise Void("there was something to do")
        samples += [Sample(turn["seconds"], {"step_seconds": turn["steps"]}) for turn in told]
        others.append(peer.run())
    ours = Measured.of("envsync", samples)
    yield Row(
        f"nothing to do, session open, {ground.entries:,} entries",
        ours,
        Measured.of(peer.name, others),
        Bar("at most", 0.5),
    )
