"""The programs that are measured: envsync, and what people use instead."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench.figures import Measured, Sample
from bench.ground import ELSEWHERE, Ground, Void
from tests.conda import ENVIRONMENT

_MEASURED = ("exit_code", "cpu_seconds", "network_bytes")


@dataclass(frozen=True, slots=True)
class Contestant:
    name: str
    run: Callable[[], Sample]
    prepare: Callable[[], None] = lambda: None
    repeat_max: int = sys.maxsize


def alternate(contestants: Sequence[Contestant], repeat: int) -> list[Measured]:
    """Run them in turn, A B A B, so that the machine's other load affects all alike."""
    samples: list[list[Sample]] = [[] for _ in contestants]
    for turn in range(repeat):
        for contestant, found in zip(contestants, samples, strict=True):
            if turn < contestant.repeat_max:
                contestant.prepare()
                found.append(contestant.run())
    return [
        Measured.of(contestant.name, found)
        for contestant, found in zip(contestants, samples, strict=True)
    ]


class Contestants:
    """Makes the contestants for one ground."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground

    def cold_push(self) -> Contestant:
        """Return a push with nothing cached on either end, so that both also hash every byte."""
        return Contestant("envsync", lambda: self.pushed("pushed"), self.cold_start)

    def known_push(self) -> Contestant:
        """Return a push of which the source's hashes are cached, as for every further server."""

        def prepare() -> None:
            self.cold_start()
            self.ground.push("--dry-run")

        return Contestant("envsync, source known", lambda: self.pushed("pushed"), prepare)

    def push_of_change(self, next_change: Callable[[], None]) -> Contestant:
        return Contestant("envsync", lambda: self.pushed("pushed"), next_change)

    def push_in_step(self) -> Contestant:
        return Contestant("envsync", lambda: self.pushed("in-step"))

    def cold_push_elsewhere(self) -> Contestant:
        return self.push_elsewhere("pushed", self.cold_start)

    def push_elsewhere(
        self, outcome: str, prepare: Callable[[], None] = lambda: None
    ) -> Contestant:
        """Return a push to another prefix, for which files that name the prefix are rewritten."""
        return Contestant(
            "envsync, relocating", lambda: self.pushed(outcome, server=ELSEWHERE), prepare
        )

    def rsync(self, *, cold: bool, environment: str = ENVIRONMENT) -> Contestant:
        def run() -> Sample:
            source = f"{self.ground.prefix}/envs/{environment}/"
            return self._bare(self.ground.timed(["rsync", "-a", source, f"{self._remote()}/"]))

        return Contestant("rsync -a", run, self._cold_peer if cold else lambda: None)

    def rsync_compressed(self) -> Contestant:
        script = 'rsync -az --compress-choice=zstd "$1/" "$2:$3/"'
        return self._shell("rsync -az", script)

    def rsync_and_sync(self) -> Contestant:
        """Return rsync with a sync, because a push, too, has its bytes on disk when it is done."""
        script = 'rsync -a "$1/" "$2:$3/" && ssh "$2" sync -f "$3"'
        return self._shell("rsync -a, sync", script)

    def tar(self) -> Contestant:
        script = 'tar -C "$1" -cf - . | ssh "$2" "mkdir $3 && tar -C $3 -xf -"'
        return self._shell("tar|ssh|tar", script)

    def scp(self) -> Contestant:
        """Return scp, which copies everything and then always fails on dangling symlinks."""
        return self._shell("scp -r", 'scp -qr "$1" "$2:$3"', exits=(0, 1), repeat_max=1)

    def conda_pack(self) -> Contestant:
        """Return conda-pack as its manual describes: pack, copy, unpack, conda-unpack."""
        pack = Path(sys.executable).with_name("conda-pack")
        options = "--ignore-editable-packages --ignore-missing-files --quiet --force"
        script = (
            f'{pack} -p "$1" -o "$4/packed.tar.gz" {options} && '
            'scp -q "$4/packed.tar.gz" "$2:$3.tar.gz" && rm "$4/packed.tar.gz" && '
            'ssh "$2" "mkdir $3 && tar -C $3 -xzf $3.tar.gz && rm $3.tar.gz && '
            '$3/bin/python $3/bin/conda-unpack"'
        )
        contestant = self._shell("conda-pack", script, repeat_max=1)

        def prepare() -> None:
            if not pack.exists():
                raise Void("conda-pack is missing: pip install 'envsync[dev]'")
            contestant.prepare()

        return replace(contestant, prepare=prepare)

    def _shell(
        self, name: str, script: str, exits: Sequence[int] = (0,), repeat_max: int = sys.maxsize
    ) -> Contestant:
        ground = self.ground

        def run() -> Sample:
            paths = [str(ground.environment), ground.target.name, str(ground.peer_tree)]
            argv = ["sh", "-c", script, "sh", *paths, str(ground.prefix.parent)]
            sample = self._bare(ground.timed(argv, exits))
            there, here = ground.count(ground.peer_tree), ground.entries
            if there < 0.95 * here:
                raise Void(f"{name} brought {there} of {here} entries")
            return sample

        return Contestant(name, run, self._cold_peer, repeat_max)

    def pushed(self, outcome: str, server: str = "", environment: str = ENVIRONMENT) -> Sample:
        """Push, and return the sample; `Void` if the push has another outcome."""
        sample = self.ground.push(server=server, environment=environment)
        if sample.details.get("outcome") != outcome:
            raise Void(f"the push was {sample.details.get('outcome')}, not {outcome}")
        return sample

    def cold_start(self) -> None:
        """Restore the state before any push, and let the disk settle."""
        self.ground.remove_pushed()
        self.ground.settle()

    def _cold_peer(self) -> None:
        self.ground.remove_peers()
        self.ground.settle()

    def _remote(self) -> str:
        return f"{self.ground.target.name}:{self.ground.peer_tree}"

    @staticmethod
    def _bare(sample: Sample) -> Sample:
        kept = {name: sample.details[name] for name in _MEASURED}
        return Sample(sample.seconds, kept)
