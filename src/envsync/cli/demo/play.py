"""The demo's steps: it runs the commands that it shows, and checks what they did."""

from __future__ import annotations

import contextlib
import json
import shlex
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from envsync.cli.demo import environment as demo_environment
from envsync.cli.demo.machines import Machine
from envsync.cli.demo.stage import Stage, require_environment, stage
from envsync.cli.invocation.invocation import Invocation
from envsync.cli.output.terminal import Terminal
from envsync.cli.output.wording import contents, duration
from envsync.errors import EnvsyncError, SomeServersFailed
from envsync.hint_commands import command_line


def play(invocation: Invocation, users: Path | None) -> None:
    """Run the demo; raises the `EnvsyncError` of the step that failed."""
    started = time.monotonic()
    if users is not None:
        users = require_environment(users)
    terminal = invocation.terminal
    narration = _Narration(terminal, is_coloured=not invocation.environ.get("NO_COLOR"))
    invocation.result = result = {"steps": narration.steps, "seconds": 0.0}
    terminal.say("envsync demo: the main job on two throwaway servers on this machine")
    with contextlib.ExitStack() as stack:
        with narration.step("An environment, and two servers") as step:
            if users is not None:
                narration.say(f"copying {users}, so that yours is not touched ...")
            the_stage = stack.enter_context(stage(users))
            _show_stage(the_stage, narration, step)
        _Play(the_stage, narration, is_json=invocation.json).steps()
        with narration.step("Clean up"):
            usage = demo_environment.measure(the_stage.directory)
            stack.close()
            narration.say(f"servers stopped, {the_stage.directory} removed: {contents(*usage)}")
    seconds = time.monotonic() - started
    result["seconds"] = round(seconds, 3)
    terminal.say()
    terminal.say(f"Everything worked, in {duration(seconds)}.")


def _show_stage(the_stage: Stage, narration: _Narration, step: dict[str, Any]) -> None:
    environment = demo_environment.measure(the_stage.environment)
    narration.call_it_d(str(the_stage.directory))
    narration.say(f"{the_stage.what}: {contents(*environment)}")
    narration.say(f"in it a small package to change: {demo_environment.PACKAGE} 1.0")
    for machine in the_stage.machines:
        narration.say(
            f"{machine.name}: an SSH server of envsync's own, on 127.0.0.1:{machine.port}"
        )
    narration.command("cd $D; cat envsync.yaml")
    for line in the_stage.inventory.splitlines():
        narration.say(line)
    narration.say("each has a prefix of its own, and the paths in files are changed to it;")
    narration.say("with the same prefix on all servers, as most have it, files stay as they are")
    step.update(
        environment=str(the_stage.environment),
        files=environment.files,
        size_bytes=environment.size_bytes,
    )


class _Narration:
    """Prints lines for a person, and collects the steps as values for `--json`."""

    def __init__(self, terminal: Terminal, *, is_coloured: bool) -> None:
        self._terminal = terminal
        self._is_bold = is_coloured and terminal.is_interactive
        self._alias = ""
        self._warned: set[str] = set()
        self.steps: list[dict[str, Any]] = []

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[dict[str, Any]]:
        """Narrate one step; an error that ends it names the step in its details.

        Values put into the dictionary become the step's in `--json`.
        """
        number = len(self.steps) + 1
        document: dict[str, Any] = {"title": title, "commands": [], "done": False}
        self.steps.append(document)
        self._terminal.say()
        if self._is_bold:
            click.secho(f"{number}  {title}", bold=True)
        else:
            self._terminal.say(f"{number}  {title}")
        started = time.monotonic()
        try:
            yield document
        except EnvsyncError as error:
            error.details = (*error.details, f"in step {number} of the demo: {title}")
            raise
        finally:
            document["seconds"] = round(time.monotonic() - started, 3)
        document["done"] = True

    def command(self, line: str) -> None:
        """Show the command line for what comes next."""
        self.steps[-1]["commands"].append(line)
        shown = line.replace(self._alias, "$D") if self._alias else line
        self._terminal.say(f"   $ {shown}")

    def call_it_d(self, path: str) -> None:
        """Show a long path as `$D` in the command lines from here on, as a shell would."""
        self.command(f"D={path}")
        self._alias = path

    def answer(self, document: dict[str, Any]) -> None:
        """Add the document of a command that was run with `--json`."""
        self.steps[-1].setdefault("answers", []).append(document)

    def say(self, line: str) -> None:
        """Show a line, but a warning only the first time: every push has the same ones."""
        if line.startswith("warning: "):
            warning = line.rpartition(": ")[2]  # without the server's name
            if warning in self._warned:
                return
            self._warned.add(warning)
        self._terminal.say(f"   {line}")


class _Play:
    """The steps, on a stage that is ready."""

    def __init__(self, the_stage: Stage, narration: _Narration, *, is_json: bool) -> None:
        self._stage = the_stage
        self._narration = narration
        self._is_json = is_json
        self._name = the_stage.name
        self._first, self._second = the_stage.machines

    def steps(self) -> None:
        narration, name = self._narration, self._name
        with narration.step("Push it to both"):
            self._envsync("push", name, "server1", "server2")
            self._run_package(server1="1.0", server2="1.0")
        with narration.step("Verify: hash every file there again"):
            self._envsync("verify", name, "server1", "server2")
        with narration.step("Change one package, push again: only the change travels"):
            demo_environment.install(self._stage.environment, "1.1")
            narration.say(f"{demo_environment.PACKAGE} 1.0 -> 1.1, here")
            self._envsync("push", name, "server1", "--dry-run")
            self._envsync("push", name, "server1", "server2")
            self._run_package(server1="1.1", server2="1.1")
        with narration.step("Someone edits a file on server2 by hand: the push is refused"):
            self._edit_by_hand()
            self._push_refused()
        with narration.step("--overwrite replaces it, and keeps the edited version"):
            self._envsync("push", name, "server2", "--overwrite")
        with narration.step("Roll back"):
            self._envsync("rollback", name, "server1")
            self._envsync("rollback", name, "server2")
            # On server2 that is the version with the edit, because the overwrite replaced it.
            self._run_package(server1="1.0", server2="1.1")
            self._require_edit()

    def _push_refused(self) -> None:
        failed = SomeServersFailed.exit_code
        refusal = self._envsync("push", self._name, "server1", "server2", status=failed)
        if demo_environment.PACKAGE not in refusal:
            raise _broken("the refusal does not name the package")

    def _envsync(self, *words: str, status: int = 0) -> str:
        """Run a command as a person would and show what it says; require its exit status."""
        as_typed = command_line(*words)
        self._narration.command(as_typed)
        said: list[str] = []

        def on_line(part: str) -> None:
            said.append(part)
            self._narration.say(part)

        options = ["--json"] if self._is_json else []
        ended = self._stage.commands.run([*words, *options], on_line)
        output = "\n".join(said)
        if ended != status:
            details = said if self._is_json else ()  # on a terminal, they were shown
            raise _broken(f"`{as_typed}` ended with exit status {ended}, not {status}", details)
        if self._is_json:
            self._narration.answer(json.loads(output))
        return output

    # On the servers

    def _run_package(self, **versions: str) -> None:
        """Run the package on each of these servers and require its version."""
        for machine in (self._first, self._second):
            version = versions[machine.name]
            environment = f"{machine.prefix}/envs/{self._name}"
            output = self._ssh(machine, shlex.quote(f"{environment}/bin/{demo_environment.SCRIPT}"))
            if f"{demo_environment.PACKAGE} {version}" not in output or environment not in output:
                raise _broken(f"not {version} of {environment} ran on {machine.name}")

    def _ssh(self, machine: Machine, command: str) -> str:
        self._narration.command(f"ssh {machine.name} {command}")
        output = machine.run(command)
        self._narration.say(output)
        return output

    @property
    def _edited(self) -> str:
        """The file that someone edits on server2, quoted for a shell."""
        module = demo_environment.module_path(self._stage.environment)
        return shlex.quote(f"{self._second.prefix}/envs/{self._name}/{module}")

    def _edit_by_hand(self) -> None:
        command = f"echo '{demo_environment.EDIT}' >> {self._edited}"
        self._narration.command(f'ssh {self._second.name} "{command}"')
        self._second.run(command)

    def _require_edit(self) -> None:
        if self._ssh(self._second, f"tail -n 1 {self._edited}") != demo_environment.EDIT:
            raise _broken("the rollback did not bring the edit back")


def _broken(what: str, details: Sequence[str] = ()) -> EnvsyncError:
    return EnvsyncError(
        f"the demo did not go as it should: {what}",
        hint="if what the command said does not explain it, please report this as a bug in envsync",
        details=details,
    )
