"""The rows: what is compared with what, and the bar that it has to reach."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bench import far, reuse
from bench.contestants import Contestant, Contestants, alternate
from bench.figures import Bar, Measured, Row, Sample
from bench.ground import (
    EXIT_DRIFT,
    Ground,
    Void,
    compile_envsync,
    envsync_command,
    variables_on_this_machine,
)
from bench.memory import Peak, watched

_HELP_REPEAT_MIN = 11
_MEMORY_MB_MAX = 250
_RELOCATING = Bar("at most", 1.3)
_VERSIONS = itertools.count(1)
_UNTIL_SPARE = 3
"""Number of pushes after which the target has a spare generation to build the next one on."""

Rows = Callable[[Ground, int], Iterator[Row]]


@dataclass(frozen=True, slots=True)
class Kind:
    """A name for `--rows`, the function that yields its rows, and the ground: "main" or "large"."""

    name: str
    summary: str
    rows: Rows
    size: str = "main"


def help_row(repeat: int) -> Row:
    """Time `envsync --help`, beside a Python that does nothing, as a measure of the machine."""
    compile_envsync()
    ours = Contestant("envsync", lambda: _timed_here([*envsync_command(), "--help"]))
    nothing = Contestant("python -c pass", lambda: _timed_here([sys.executable, "-c", "pass"]))
    found, peer = alternate([ours, nothing], max(repeat, _HELP_REPEAT_MIN))
    return Row("envsync --help", found, peer, Bar("below", 0.2, "s"))


def _timed_here(argv: list[str]) -> Sample:
    started = time.perf_counter()
    subprocess.run(argv, check=True, capture_output=True, env=variables_on_this_machine())
    return Sample(time.perf_counter() - started)


def cold(ground: Ground, repeat: int) -> Iterator[Row]:
    """Compare cold pushes over an unlimited link, one with the source's hashes cached."""
    make = Contestants(ground)
    with_disk = [make.rsync_and_sync()] if ground.storage == "ext4" else []
    contestants = [make.cold_push(), make.rsync(cold=True), make.known_push(), make.tar()]
    ours, rsync, known, *others = alternate([*contestants, *with_disk], repeat)
    yield Row("cold, unlimited", ours, rsync, Bar("at most", 1.3))
    yield Row("cold, source known", known, rsync, note="as for each further server")
    for other in others:
        yield Row("cold, unlimited", ours, other)


def _cold_limited(rate: str, label: str, bar: float) -> Rows:
    def rows(ground: Ground, repeat: int) -> Iterator[Row]:
        make = Contestants(ground)
        ground.target.limit(rate)
        try:
            ours, rsync, tar = alternate(
                [make.cold_push(), make.rsync(cold=True), make.tar()], repeat
            )
        finally:
            ground.target.unlimit()
        yield Row(f"cold, {label}", ours, rsync, Bar("at most", bar))
        yield Row(f"cold, {label}", ours, tar)

    return rows


def scp(ground: Ground, repeat: int) -> Iterator[Row]:
    make = Contestants(ground)
    ours, peer = alternate([make.cold_push(), make.scp()], repeat)
    yield Row("cold, by scp", ours, peer, Bar("times faster", 8))


def conda_pack(ground: Ground, repeat: int) -> Iterator[Row]:
    make = Contestants(ground)
    ours, peer = alternate([make.cold_push(), make.conda_pack()], repeat)
    yield Row("cold, by conda-pack", ours, peer, Bar("times faster", 15))
    # With conda-pack, every change takes the whole procedure again.
    _bring_both_in_step(make)
    change = _push_of_package(ground, make)
    alternate([change], _UNTIL_SPARE)
    [ours] = alternate([change], repeat)
    yield Row("one pip package, by conda-pack", ours, peer, Bar("times faster", 100))


def _nothing(bar: float) -> Rows:
    """Return rows about doing nothing, which count only as the flipped byte is found beside it."""

    def rows(ground: Ground, repeat: int) -> Iterator[Row]:
        make = Contestants(ground)
        _bring_both_in_step(make)
        finding = Contestant("envsync", lambda: _push_finding_drift(ground))
        contestants = [finding, make.push_in_step(), make.rsync(cold=False)]
        drifted, in_step, rsync = alternate(contestants, repeat)
        label = f"{ground.entries:,} entries"
        note = "one byte flipped, its mtime put back: each of these runs named it and exited 11"
        yield Row(f"nothing to do, {label}", in_step, rsync, Bar("at most", bar))
        yield Row(f"drift found, {label}", drifted, rsync, Bar("at most", bar), note)

    return rows


def _bring_both_in_step(make: Contestants) -> None:
    for contestant in (make.cold_push(), make.rsync(cold=True), make.push_in_step()):
        contestant.prepare()
        contestant.run()


def _push_finding_drift(ground: Ground) -> Sample:
    with ground.flipped_byte(ground.environment):
        sample = ground.push(exits=(EXIT_DRIFT,))
    if sample.details["error"] != "drift":
        raise Void(f"a flipped byte was reported as {sample.details['error']}")
    return sample


def pip(ground: Ground, repeat: int) -> Iterator[Row]:
    """Push one changed package; the target has a spare generation, as after normal use."""
    make = Contestants(ground)

    push, rsync = _push_of_package(ground, make), make.rsync(cold=False)
    _bring_both_in_step(make)
    alternate([push, rsync], _UNTIL_SPARE)
    ours, peer = alternate([push, rsync], repeat)
    yield Row("one pip package", ours, peer, Bar("at most", 1.8))


def _push_of_package(ground: Ground, make: Contestants) -> Contestant:
    """Return a push of the next version of one package at each run."""

    def next_change() -> None:
        ground.install_wheel(f"1.{next(_VERSIONS)}")
        ground.settle()

    return make.push_of_change(next_change)


def relocate(ground: Ground, repeat: int) -> Iterator[Row]:
    """Compare pushes to another prefix with pushes to the same one."""
    make = Contestants(ground)
    moved, plain = alternate([make.cold_push_elsewhere(), make.cold_push()], repeat)
    yield Row("relocating, cold", moved, plain, _RELOCATING)

    _bring_both_in_step(make)
    make.push_elsewhere("pushed").run()
    first, second = _push_of_package(ground, make), make.push_elsewhere("pushed")
    alternate([first, second], _UNTIL_SPARE)
    plain, moved = alternate([first, second], repeat)
    yield Row("relocating, one pip package", moved, plain, _RELOCATING)
    plain, moved = alternate([make.push_in_step(), make.push_elsewhere("in-step")], repeat)
    yield Row("relocating, nothing to do", moved, plain, _RELOCATING)


def memory(ground: Ground, repeat: int) -> Iterator[Row]:
    """Measure peak memory of a cold push, one with nothing to do, and one of a changed package."""
    del repeat  # peaks hardly vary
    make = Contestants(ground)
    pushes = {
        "cold": make.cold_push(),
        "nothing": make.push_in_step(),
        "one package": make.push_of_change(lambda: ground.install_wheel(f"1.{next(_VERSIONS)}")),
    }
    for name, contestant in pushes.items():
        contestant.prepare()
        with watched(ground.source, ground.target) as peaks:
            contestant.run()
        for side, peak in zip(("source", "target"), peaks, strict=True):
            yield _memory_row(f"memory, {name}, {side}", peak)


def _memory_row(label: str, peak: Peak) -> Row:
    note = f"{peak.total_mb:.0f} MB together, {peak.largest_mb:.0f} MB the largest: {peak.largest}"
    measured = Measured("envsync", (peak.megabytes,), unit="MB")
    return Row(label, measured, bar=Bar("below", _MEMORY_MB_MAX, "MB"), note=note)


def resources(ground: Ground, repeat: int) -> Iterator[Row]:
    """Measure the resources of each contestant's cold push on both ends, without timing it."""
    del repeat
    make = Contestants(ground)
    contestants = [
        make.cold_push(),
        make.rsync(cold=True),
        make.rsync_compressed(),
        make.tar(),
        make.scp(),
        make.conda_pack(),
    ]
    for contestant in contestants:
        contestant.prepare()
        with watched(ground.source, ground.target) as peaks:
            measured = Measured.of(contestant.name, [contestant.run()])
        spent = measured.medians_of("cpu_seconds")
        moved = measured.medians_of("network_bytes")
        note = (
            f"{spent['source']:.1f} + {spent['target']:.1f} s of processor, "
            f"{moved['there'] / 1e6:.1f} MB there, {moved['back'] / 1e6:.1f} MB back, "
            f"at most {peaks[0].total_mb:.0f} + {peaks[1].total_mb:.0f} MB of memory"
        )
        yield Row(f"cold, {contestant.name}", measured, note=note)


KINDS = (
    Kind("cold", "cold push, unlimited link, against rsync -a and tar", cold),
    Kind("cold-1gbit", "the same at 1 Gbit/s", _cold_limited("1gbit", "1 Gbit/s", 0.9)),
    Kind("cold-200mbit", "the same at 200 Mbit/s", _cold_limited("200mbit", "200 Mbit/s", 0.4)),
    Kind("scp", "cold push against scp -r", scp),
    Kind("conda-pack", "cold push against conda-pack, copy, unpack", conda_pack),
    Kind("nothing", "nothing to do, drift checked, against rsync -a", _nothing(1.4)),
    Kind("pip", "one pip package changed, against rsync -a", pip),
    Kind("relocate", "a push to another prefix against one to the same", relocate),
    Kind("in-session", "nothing to do, the session open already, against rsync -a", far.in_session),
    Kind("clone-1gbit", reuse.CLONE_SUMMARY, reuse.clone("1gbit", "1 Gbit/s", 0.45)),
    Kind("clone-200mbit", "the same at 200 Mbit/s", reuse.clone("200mbit", "200 Mbit/s", 0.15)),
    Kind("moved", "an environment moved by mv, pushed under its new name", reuse.moved),
    Kind("large-file", "20 places of the largest file rewritten, 200 Mbit/s", reuse.large_file),
    Kind("distance", "cold push over 20 and 100 ms against 0 ms, 200 Mbit/s", far.distance),
    Kind("resume", "bytes sent again after a cut at 60 %, in the largest file", far.resume),
    Kind("resources", "processor, memory and bytes of a cold push, and of the others", resources),
    Kind("nothing-large", "nothing to do in the large environment", _nothing(0.8), "large"),
    Kind("memory", "peak memory of both ends with the large environment", memory, "large"),
)
