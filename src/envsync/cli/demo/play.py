"""The demo's steps. Each does what its command line says, with the same code, and checks it."""

from __future__ import annotations

import contextlib
import shlex
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from envsync.agent.server.accounts import who
from envsync.agent.wire.checked_json import to_json
from envsync.agent.wire.messages import RecordFacts
from envsync.agent.wire.target_operations import OpenTarget, Requester
from envsync.cli.demo import environment as demo_environment
from envsync.cli.demo.machines import Machine
from envsync.cli.demo.narration import Narration
from envsync.cli.demo.stage import Stage, require_environment, stage
from envsync.cli.invocation.invocation import Invocation
from envsync.cli.output.wording import count, duration
from envsync.cli.pushing.report_text import report_lines
from envsync.errors import EnvsyncError
from envsync.push.ends.end import End
from envsync.push.ends.target_end import TargetEnd
from envsync.push.fan_out.fan_out import FanOut
from envsync.push.queries.servers import for_each_server
from envsync.push.request.places import Destination, Place
from envsync.push.request.settings import PushSettings
from envsync.push.steps.report import IN_STEP, PLANNED, PUSHED, PushReport
from envsync.texts.sizes import size
from envsync.tree.local import DEFAULT_LOCAL
from envsync.tree.manifest import Totals
from envsync.tree.revision import short

T = TypeVar("T")


def play(invocation: Invocation, users: Path | None) -> None:
    """Run the demo; raises the `EnvsyncError` of the step that failed."""
    started = time.monotonic()
    if users is not None:
        users = require_environment(users)
    terminal = invocation.terminal
    narration = Narration(terminal, is_coloured=not invocation.environ.get("NO_COLOR"))
    invocation.result = result = {"steps": narration.steps, "seconds": 0.0}
    terminal.say("envsync demo: the main job on two throwaway servers on this machine")
    with contextlib.ExitStack() as stack:
        with narration.step("An environment, and two servers") as step:
            if users is not None:
                narration.say(f"copying {users}, so that yours is not touched ...")
            the_stage = stack.enter_context(stage(users))
            _show_stage(the_stage, narration, step)
        _Play(the_stage, narration).steps()
        with narration.step("Clean up"):
            usage = demo_environment.measure(the_stage.directory)
            stack.close()
            narration.say(
                f"servers stopped, {the_stage.directory} removed: "
                f"{count(usage.files, 'file')}, {size(usage.size_bytes)}"
            )
    seconds = time.monotonic() - started
    result["seconds"] = round(seconds, 3)
    terminal.say()
    terminal.say(f"Everything worked, in {duration(seconds)}.")


def _show_stage(the_stage: Stage, narration: Narration, step: dict[str, Any]) -> None:
    environment = demo_environment.measure(the_stage.environment)
    narration.call_it_d(str(the_stage.directory))
    narration.say(
        f"{the_stage.what}: {count(environment.files, 'file')}, {size(environment.size_bytes)}"
    )
    narration.say(f"in it a small package to change: {demo_environment.PACKAGE} 1.0")
    for machine in the_stage.machines:
        narration.say(
            f"{machine.name}: an SSH server of envsync's own, on 127.0.0.1:{machine.port}"
        )
    narration.say("each has a prefix of its own, and the paths in files are changed to it;")
    narration.say("with the same prefix on all servers, as most have it, files stay as they are")
    step.update(
        environment=str(the_stage.environment),
        files=environment.files,
        size_bytes=environment.size_bytes,
    )


class _Play:
    """The steps, on a stage that is ready."""

    def __init__(self, the_stage: Stage, narration: Narration) -> None:
        self._stage = the_stage
        self._narration = narration
        self._name = the_stage.name
        self._who = who()
        self._warned: set[str] = set()
        self._first, self._second = the_stage.machines

    def steps(self) -> None:
        narration = self._narration
        with narration.step("Push it to both"):
            self._push()
            self._run_there(server1="1.0", server2="1.0")
        with narration.step("Verify: hash every file there again"):
            self._verify()
        with narration.step("Change one package, push again: only the change travels"):
            demo_environment.install(self._stage.environment, "1.1")
            narration.say(f"{demo_environment.PACKAGE} 1.0 -> 1.1, here")
            self._plan()
            self._push()
            self._run_there(server1="1.1", server2="1.1")
        with narration.step("Someone edits a file on server2 by hand: the push is refused"):
            self._edit_by_hand()
            self._push_refused()
        with narration.step("--overwrite replaces it, and keeps the edited version"):
            self._overwrite()
        with narration.step("Roll back"):
            self._rollback()

    # Pushing

    def _push(self) -> None:
        self._narration.command(f"envsync push {self._name} server1 server2")
        for report in self._reports():
            self._require(report, PUSHED)

    def _plan(self) -> None:
        self._narration.command(f"envsync push {self._name} server1 --dry-run")
        (report,) = self._reports(self._first, dry_run=True)
        self._require(report, PLANNED)

    def _push_refused(self) -> None:
        self._narration.command(f"envsync push {self._name} server1 server2")
        first, second = self._reports()
        self._require(first, IN_STEP)
        if second.error is None or second.error.code != "drift":
            raise second.error or _broken("the push was not refused", second.server)
        if not any(demo_environment.PACKAGE in line for line in second.error.details):
            raise _broken("the refusal does not name the package", second.server)

    def _overwrite(self) -> None:
        self._narration.command(f"envsync push {self._name} server2 --overwrite")
        (report,) = self._reports(self._second, overwrite=True)
        self._require(report, PUSHED)
        if not report.overwritten:
            raise _broken("nothing was kept", report.server)

    def _reports(
        self, *machines: Machine, dry_run: bool = False, overwrite: bool = False
    ) -> list[PushReport]:
        """Push for real, and show the reports."""
        source = Place(socket.gethostname(), str(self._stage.prefix))
        settings = PushSettings(
            environment=self._name,
            source=f"{source.server}:{self._stage.environment}",
            who=self._who,
            # This transport needs nothing installed.
            transport="stream",
            dry_run=dry_run,
            overwrite=overwrite,
        )
        destinations = [
            Destination(machine.name, machine.prefix, machine.open_link)
            for machine in machines or self._stage.machines
        ]
        reports = FanOut(settings, source, destinations).run()
        narration = self._narration
        documents = narration.steps[-1].setdefault("reports", [])
        documents.extend(report.to_json() for report in reports)
        for report in reports:
            for line in report_lines(report, verbose=False):
                narration.say(line)
            for line in () if report.error is None else _refusal_lines(report.error):
                narration.say(line)
        warnings = {warning for report in reports for warning in report.warnings}
        for warning in sorted(warnings - self._warned):
            narration.say(f"warning: {warning}")
        self._warned |= warnings
        return reports

    def _require(self, report: PushReport, outcome: str) -> None:
        if report.error is not None:
            raise report.error
        if report.outcome != outcome:
            raise _broken(f"the push ended as {report.outcome}, not {outcome}", report.server)

    # On the servers

    def _run_there(self, **versions: str) -> None:
        """Run the package on each of these servers and require its version."""
        for machine in self._stage.machines:
            version = versions[machine.name]
            environment = f"{machine.prefix}/envs/{self._name}"
            command = shlex.quote(f"{environment}/bin/{demo_environment.SCRIPT}")
            self._narration.command(f"ssh {machine.name} {command}")
            output = machine.run(command)
            self._narration.say(output)
            if f"{demo_environment.PACKAGE} {version}" not in output or environment not in output:
                raise _broken(f"not {version} of {environment} ran", machine.name)

    @property
    def _edited(self) -> Path:
        """The file that someone edits on server2."""
        module = demo_environment.module_path(self._stage.environment)
        return Path(self._second.prefix, "envs", self._name, module)

    def _edit_by_hand(self) -> None:
        command = f"echo '{demo_environment.EDIT}' >> {shlex.quote(str(self._edited))}"
        self._narration.command(f'ssh {self._second.name} "{command}"')
        self._second.run(command)

    def _verify(self) -> None:
        self._narration.command(f"envsync verify {self._name} server1 server2")
        for server, facts in self._ask(self._stage.machines, TargetEnd.verify):
            if facts.record is None or facts.damaged or facts.missing or facts.unexpected:
                raise _broken("what is there is not what was published", server)
            self._narration.say(
                f"{self._name} on {server}: {_contents(facts.totals)}, "
                f"as published ({short(facts.record.source_revision)})"
            )

    def _rollback(self) -> None:
        by = self._who

        def put_back(target: TargetEnd) -> RecordFacts:
            return target.rollback(None, by, overwrite=False)

        for machine in self._stage.machines:
            self._narration.command(f"envsync rollback {self._name} {machine.name}")
            for server, record in self._ask([machine], put_back):
                self._narration.say(
                    f"{self._name} on {server}: back at {short(record.source_revision)} "
                    f"({_contents(record.totals)})"
                )
        # On server2 that is the version with the edit, because the overwrite replaced it.
        self._run_there(server1="1.0", server2="1.1")
        self._narration.command(f"ssh {self._second.name} tail -n 1 {self._edited}")
        line = self._second.run(f"tail -n 1 {shlex.quote(str(self._edited))}")
        self._narration.say(line)
        if line != demo_environment.EDIT:
            raise _broken("the rollback did not bring the edit back", self._second.name)

    def _ask(
        self, machines: Sequence[Machine], question: Callable[[TargetEnd], T]
    ) -> list[tuple[str, T]]:
        """Return what each server answers; raises the first failure."""

        def ask(end: End, place: Place) -> T:
            request = OpenTarget(place.prefix, self._name, DEFAULT_LOCAL, Requester(self._who))
            return question(TargetEnd(end, request))

        places = [Place(one.name, one.prefix, one.open_link) for one in machines]
        answers = [(outcome.server, outcome.answer()) for outcome in for_each_server(places, ask)]
        self._narration.steps[-1].setdefault("answers", []).extend(
            {"server": server, **to_json(value)} for server, value in answers
        )
        return answers


def _refusal_lines(error: EnvsyncError) -> list[str]:
    """Return the lines that `Terminal.error` would write; here they are part of the output."""
    lines = [f"envsync: {error.server}: {error.message}"]
    lines += [f"  {detail}" for detail in error.details]
    return [*lines, f"  → {error.hint}"] if error.hint else lines


def _contents(totals: Totals) -> str:
    return f"{count(totals.files, 'file')}, {size(totals.size_bytes)}"


def _broken(what: str, server: str) -> EnvsyncError:
    return EnvsyncError(
        f"the demo did not go as it should: {what}",
        hint="this is a bug in envsync: please report it",
        server=server,
    )
