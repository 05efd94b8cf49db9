"""What a child of the daemon says of a source that it was told to scan."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn, cast

import pytest

from envsync.agent.server.helper_processes import HelperProcesses
from envsync.agent.source.source_environment import SourceEnvironment
from envsync.cli.daemon import work as daemon_work
from envsync.cli.invocation.site import Site
from envsync.errors import AuthenticationRefused, EnvsyncError, HostKeyRefused, SourceRefused
from envsync.inventory import Environment, Inventory, Server
from envsync.push.fan_out.fan_out import FanOut
from envsync.push.request.places import Place
from envsync.push.steps.report import FAILED, PUSHED, PushReport, ServerProgress
from tests.support import disk
from tests.support.pushes import NAME, environment
from tests.support.trees import file


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A machine with one environment."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    top = tmp_path / "envs" / NAME
    top.mkdir(parents=True)
    disk.build(os.fsencode(top), environment({b"var/log": file(b"of a job")}))
    here = Place("server1", str(tmp_path))
    found = SimpleNamespace(own_name=here.server, here_place=lambda: here, local=lambda _: ())
    return cast(Site, found)


@pytest.mark.parametrize("changes", [0, 1, 3, 99])
def test_a_scan_never_ends_in_silence(
    changes: int,
    site: Site,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Also where a job writes into the source between each look and the one that confirms it."""
    log = tmp_path / "envs" / NAME / "var/log"
    confirm, number = SourceEnvironment.confirm, itertools.count()

    def confirm_later(source: SourceEnvironment) -> bool:
        if next(number) < changes:
            with log.open("ab") as stream:
                stream.write(b"more")
        return confirm(source)

    monkeypatch.setattr(SourceEnvironment, "confirm", confirm_later)
    # Nobody knows it yet: each look has to read something.
    with pytest.raises(SourceRefused) if changes == 99 else contextlib.nullcontext():
        daemon_work._scan(site, NAME)
    said = capsys.readouterr().out
    if changes == 99:
        assert said == ""
    else:
        assert len(json.loads(said)["revision"]) == 64


def _unreachable_server(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A machine with one environment, and a server that refuses at once."""

    def refused() -> NoReturn:
        raise HostKeyRefused("the host key has changed")

    monkeypatch.setattr("envsync.cli.invocation.site.link_opener", lambda _: refused)
    servers = (Server("server1", "server1"), Server("server2", "server2"))
    environment = Environment(NAME, source="server1", push_to=("server2",))
    inventory = Inventory(Path("x.yaml"), str(directory), servers, (environment,))
    return Site(inventory, "server1", "server1", None)


def test_a_push_that_reached_nobody_says_what_the_source_is(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The daemon would take servers that were not pushed to for being in step."""
    del site  # its environment is pushed
    pushed = _unreachable_server(tmp_path, monkeypatch)
    daemon_work._push(pushed, NAME, ("server2",), lambda: None)
    messages = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["report"]["error"]["code"] for one in messages if "report" in one] == [
        "host-key-refused"
    ]
    assert [len(one["revision"]) for one in messages if "revision" in one] == [64]


def test_a_server_is_told_of_once_its_push_has_begun(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was only prepared has not: the daemon has not begun it either."""
    sent = daemon_work._SentReports(site, NAME, ("s2", "s3"))

    def told(*servers: str) -> list[str]:
        for server in servers:
            sent.on_progress(ServerProgress(server, "connect"))
        return [json.loads(line)["server"] for line in capsys.readouterr().out.splitlines()]

    assert told("s1", "s2", "s2") == []
    assert sent.start(is_changed=True)
    assert told("s2", "s1") == ["s2"]
    assert told("s3", "s3") == ["s3"]


@pytest.fixture
def report(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[EnvsyncError], list[dict[str, Any]]]:
    """Returns the messages of a push to a server that ended with such an error."""
    del site  # its environment is pushed

    def report(error: EnvsyncError) -> list[dict[str, Any]]:
        def fail(fan_out: FanOut) -> None:
            fan_out._on_report(PushReport("server2", NAME, FAILED, error=error))

        monkeypatch.setattr(FanOut, "run", fail)
        monkeypatch.setattr(FanOut, "source_revision", "ab" * 32)
        pushed = _unreachable_server(tmp_path, monkeypatch)
        daemon_work._push(pushed, NAME, ("server2",), lambda: None)
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    return report


def test_push_that_refuses_the_source_says_nothing_else_of_it(
    report: Callable[[EnvsyncError], list[dict[str, Any]]],
) -> None:
    """A scan that went well ends the growing pauses between the tries."""
    [said] = report(SourceRefused("pip is at work"))
    assert said["report"]["error"]["code"] == "source-refused"


@pytest.mark.parametrize("agent", ["", "/run/user/1000/agent"])
def test_daemon_without_an_ssh_agent_is_not_advised_to_unlock_a_key(
    report: Callable[[EnvsyncError], list[dict[str, Any]]],
    agent: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An agent that is started in a session is none of the service's."""
    monkeypatch.setenv("SSH_AUTH_SOCK", agent)
    if not agent:
        monkeypatch.delenv("SSH_AUTH_SOCK")
    refused = AuthenticationRefused("no", hint="ssh-add")
    refused.lacks_usable_key = True
    *_, ended = report(refused)
    hint = ended["report"]["error"]["hint"]
    if agent:
        assert hint == "ssh-add"
    else:
        assert hint.startswith("a key without a passphrase, for the service")
        assert hint.endswith("ssh-copy-id -i ~/.ssh/envsync.pub server2")


def test_a_push_has_helpers_because_they_are_forked_before_it_listens_to_the_daemon(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To listen takes a thread, and a process with threads forks no helpers."""
    del site  # its environment is pushed
    events, fork = list[str](), HelperProcesses.fork

    def recorded(*arguments: Any, **options: Any) -> HelperProcesses:
        events.append("fork")
        return fork(*arguments, **options)

    monkeypatch.setattr(HelperProcesses, "fork", recorded)
    pushed = _unreachable_server(tmp_path, monkeypatch)
    daemon_work._push(pushed, NAME, ("server2",), lambda: events.append("listen"))
    assert events == ["fork", "listen"]


def test_a_spare_that_cannot_be_made_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "envs" / NAME).mkdir(parents=True)
    site = _unreachable_server(tmp_path, monkeypatch)
    daemon_work._make_spares(site, NAME, ("server2",))
    said = json.loads(capsys.readouterr().out)
    assert said["environment"] == NAME
    assert (said["error"]["code"], said["error"]["server"]) == ("host-key-refused", "server2")


def test_a_report_has_the_first_of_many_warnings(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    """There may be one for each link that leads out, and the daemon keeps them on disk."""
    most = daemon_work.NOTES_MAX
    many = tuple(f"a link leads to https://bob:s3cretpw@lab/{number}" for number in range(most + 2))
    report = PushReport("server2", NAME, PUSHED, "ab" * 32, warnings=many, changes=("a=1 -> a",))
    daemon_work._SentReports(site, NAME, ()).send(report, "")
    *_, line = capsys.readouterr().out.splitlines()
    sent = json.loads(line)["report"]
    assert sent["changes"] == ["a=1 -> a"]
    assert [sent["warnings"][most - 1][-2:], *sent["warnings"][most:]] == ["19", "and 2 more"]
    assert "s3cretpw" not in line
