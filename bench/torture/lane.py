"""A lane: one source and one target, on which one round after another is played."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.torture import drift, launcher, sampler
from bench.torture.faults import Faults, Hit
from bench.torture.judge import Fallen, Judge
from bench.torture.observed import Observed, observe, of_tree
from bench.torture.script import LATE, MEDDLE, SWITCHING, Round
from bench.torture.tally import Tally
from tests.integration.push.places import environment, trees
from tests.integration.push.planted import plant
from tests.integration.push.stamped import Stamped, is_quiet
from tests.lab.lab import Lab, LabHost

if TYPE_CHECKING:
    from tests.lab.namespaces import EnteredProcess

FILE_BYTES = 6_000
COMMAND_SECONDS_MAX = 150.0
"""The limit for any command: one that lost its link asks for up to 150 s what became of it."""
QUIET_SECONDS_MAX = 30.0
_USUAL_SECONDS = 0.8
_FINDINGS = "/run/lab/findings"
_ANSWER = "/run/lab/answer.json"


class Source(Stamped):
    """A small environment with a program in it, of which `change` makes the next version."""

    def change(self) -> int:
        version = super().change()
        (self.top / "bin").mkdir(exist_ok=True)
        program = self.top / "bin" / "python"
        program.unlink(missing_ok=True)
        program.write_text(f"#!/bin/sh\n# {version}\n# {version}\n")
        program.chmod(0o755)
        padding = self.top / "conda-meta" / "padding"
        if not padding.exists():
            padding.write_bytes(b"\0" * 64)
        return version


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended; `hit` is the effect of its fault, None without one."""

    exit_code: int
    answer: str
    hit: Hit | None


class Lane:
    """A source and a target. `play` carries out a round; `Fallen` if a promise was broken."""

    def __init__(self, lab: Lab, say: Callable[[str], None]) -> None:
        self.tally = Tally()
        self._say = say
        self._controller = lab.controller
        [self._target] = lab.targets
        self._source = Source.in_lab(lab, FILE_BYTES)
        self._judge = Judge()
        self._judge.source_is(of_tree(self._source.top))
        self._usual: dict[tuple[str, str], float] = {}
        self._seen: Observed | None = None
        command = plant(self._controller)
        self._launcher = self._start(
            self._controller, launcher.__file__, command.environment, b"ready\n"
        )
        self._faults = Faults(self._controller, self._target, self._launcher)
        self._sampler: EnteredProcess | None = None

    @staticmethod
    def _start(
        host: LabHost, script: str, env: dict[str, str], greeting: bytes, *arguments: str
    ) -> EnteredProcess:
        process = host.popen(
            [sys.executable, script, *arguments], env=env, stdin=subprocess.PIPE, stderr=None
        )
        assert process.stdout is not None
        if process.stdout.readline() != greeting:
            raise RuntimeError(f"{script} did not start")
        return process

    def begin(self) -> None:
        """Push the first version, and start the sampler."""
        ended = self._run(["push", "myenv", self._target.name], None, _USUAL_SECONDS)
        if ended.exit_code:
            raise RuntimeError(f"the first push ended with {ended.exit_code}: {ended.answer}")
        where = str(environment(self._target).relative_to(self._target.path("/")))
        self._sampler = self._start(
            self._target, sampler.__file__, {}, b"watching\n", f"/{where}", _FINDINGS
        )
        self._seen = observe(self._target)

    def end(self) -> None:
        """Stop the sampler and add its counts to the tally; stop the launcher."""
        if self._sampler is not None:
            out, _ = self._sampler.communicate(b"\n", timeout=30)
            counts = json.loads(out)
            self.tally.samples += counts["samples"]
            self.tally.slow_samples += counts["slow"]
            self._sampler = None
        self._launcher.communicate(b"", timeout=30)

    # A round

    def play(self, round_: Round) -> None:
        """Carry out one round; raise `Fallen` if a promise was broken."""
        self.tally.rounds += 1
        if round_.changes:
            self._source.change()
            self._judge.source_is(of_tree(self._source.top))
        self._drift(round_)
        before = self._now()
        started = time.monotonic()
        key = round_.operation, round_.transport if round_.is_push else ""
        ended = self._run(_arguments(round_, self._target), round_, self._usual.get(key, 0.8))
        if ended.hit is None:
            took = time.monotonic() - started
            self._usual[key] = took if key not in self._usual else (self._usual[key] + took) / 2
        self._count(round_, before, ended)
        self._settle()
        self._say(f"{round_} -> {ended.exit_code} {ended.hit or ''}")
        self._judge_operation(round_, before, ended)
        if round_.follow_up:
            self._follow_up()
        self._look_at_samples()

    def _drift(self, round_: Round) -> None:
        if not round_.drift:
            return
        before = self._now()
        if round_.drift == LATE:
            known = [path for path in trees(self._target) if path.lstat().st_ino in before.records]
            if not known:
                return
            drift.add(known[round_.number % len(known)], drift.LATER, round_.number)
        else:
            drift.apply(round_.drift, environment(self._target), round_.number)
        self.tally.drifts += 1
        self._seen = None
        self._judge.drifted(before, self._now())

    def _judge_operation(self, round_: Round, before: Observed, ended: Ended) -> None:
        judge, hit = self._judge, ended.hit
        if hit is None or not hit.landed:
            expected = judge.acceptable_exits(round_, before)
            if ended.exit_code not in expected:
                raise Fallen(
                    "wrong ending", f"{ended.exit_code}, not {set(expected)}: {ended.answer}"
                )
        if hit is not None and hit.landed and round_.has_to_be_refused:
            judge.require_refusal(ended.exit_code)
        acceptable = judge.acceptable_contents(round_, before, ended.exit_code)
        if ended.exit_code > 0:
            # A command that was not killed and reports a failure has changed nothing.
            acceptable = {before.content}
        after = self._now()
        judge.after_operation(round_, before, after)
        if hit is not None and hit.meddled:
            without = observe(self._target, but=hit.meddled)
            judge.meddled(hit.meddled, after, without, acceptable)
            acceptable = {after.content}
        judge.check(after, acceptable)
        self.tally.generations_checked += len(after.records)

    def _follow_up(self) -> None:
        """Push once more: it has to succeed, or be refused because of what is really there."""
        before = self._now()
        expected = self._judge.push_exits(before, overwrite=False, retry_held=False)
        ended = self._run(["push", "myenv", self._target.name], None, 0.0)
        self.tally.commands["push"] += 1
        self.tally.endings[str(ended.exit_code)] += 1
        self._settle()
        self._say(f"  then a push -> {ended.exit_code}")
        if ended.exit_code not in expected:
            raise Fallen("wrong ending", f"{ended.exit_code}, not {set(expected)}: {ended.answer}")
        after = self._now()
        done = ended.exit_code == 0
        self._judge.check(after, {self._judge.source if done else before.content})
        if done and after.recorded != after.content:
            raise Fallen("damaged generation", "what stands there is not what its record says")

    def _now(self) -> Observed:
        if self._seen is None:
            self._seen = observe(self._target)
        return self._seen

    # A command

    def _run(self, arguments: list[str], round_: Round | None, usual_seconds: float) -> Ended:
        self._seen = None
        fault = None if round_ is None else round_.fault
        self._faults.prepare(fault)
        pid = self._ask({"run": [*arguments, "--json"], "out": _ANSWER})
        assert pid is not None
        hit = None
        if fault is not None and round_ is not None:
            over = self._over
            self._exit_code: int | None = None
            hit = self._faults.strike(fault, pid, usual_seconds, over, round_.number)
        status = self._exit_code if fault is not None else None
        if status is None:
            status = self._ask({"wait": COMMAND_SECONDS_MAX})
        if status is None:
            raise Fallen("hang", f"{' '.join(arguments)} did not end")
        return Ended(status, self._answer(), hit)

    def _over(self) -> bool:
        if self._exit_code is None:
            self._exit_code = self._ask({"wait": 0})
        return self._exit_code is not None

    def _ask(self, order: object) -> int | None:
        assert self._launcher.stdin is not None
        assert self._launcher.stdout is not None
        self._launcher.stdin.write(json.dumps(order).encode() + b"\n")
        self._launcher.stdin.flush()
        answer: int | None = json.loads(self._launcher.stdout.readline())
        return answer

    def _answer(self) -> str:
        texts = [self._controller.path(_ANSWER + suffix) for suffix in ("", ".err")]
        return " ".join(text.read_text().strip()[-1500:] for text in texts if text.exists())

    def _settle(self) -> None:
        """Wait until no agent and no transfer is at work on the target."""
        deadline = time.monotonic() + QUIET_SECONDS_MAX
        while not (is_quiet(self._target) and self._faults.is_quiet()):
            if time.monotonic() > deadline:
                raise Fallen("hang", "an agent or a transfer goes on and on")
            time.sleep(0.01)

    def _count(self, round_: Round, before: Observed, ended: Ended) -> None:
        self.tally.commands[round_.operation] += 1
        hit = ended.hit
        self.tally.endings["killed" if ended.exit_code < 0 else str(ended.exit_code)] += 1
        if hit is None:
            return
        if not hit.landed:
            self.tally.missed += 1
        elif hit.victim == MEDDLE:
            self.tally.meddled += 1
        else:
            self.tally.kills[hit.victim] += 1
            if round_.operation in SWITCHING:
                same = hit.live_inode == before.live_inode
                plain = "before the switch" if same else "after it"
                self.tally.phases["within it" if hit.switching else plain] += 1

    def _look_at_samples(self) -> None:
        findings = self._target.path(_FINDINGS)
        if findings.exists():
            text = findings.read_text()
            findings.unlink()
            raise Fallen("mixture", text.splitlines()[0][:500])


def _arguments(round_: Round, target: LabHost) -> list[str]:
    forced = ["--overwrite"] if "overwrite" in round_.operation else []
    if round_.is_push:
        held = ["--retry-held"] if round_.retry_held else []
        transport = ["--transport", round_.transport]
        return ["push", "myenv", target.name, *transport, *forced, *held]
    if round_.operation.startswith("gc"):
        return ["gc", target.name, *(["--drifted"] if round_.operation == "gc-drifted" else [])]
    return [round_.operation.partition("-")[0], "myenv", target.name, *forced]


@contextlib.contextmanager
def lane(directory: Path | None, say: Callable[[str], None]) -> Iterator[Lane]:
    """Yield a lane with the first version pushed; the target's storage is `directory`, if given."""
    with Lab.start(["server1", "server2"]) as lab:
        if directory is not None:
            lab["server2"].use_directory(directory)
        made = Lane(lab, say)
        made.begin()
        yield made
