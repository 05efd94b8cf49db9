"""Links that fail, each in another phase of one push to many servers.

Every wait ends, every message is clear, nobody's trouble is another one's, nothing
half-published stands anywhere, and the next push goes on from there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from tests.integration.push.command import Envsync, finish
from tests.integration.push.places import state
from tests.integration.push.planted import Stop, plant
from tests.integration.push.stamped import Stamped, is_quiet, version_at
from tests.lab.fixtures import demand_lab
from tests.lab.lab import Lab, LabHost
from tests.support.processes import wait_until

pytestmark = pytest.mark.timeout(150)

SILENCE_SECONDS = 3.0
OLD, NEW = 1, 2


@dataclass(frozen=True, slots=True)
class Case:
    """What befalls one server, and what has to come of it.

    `moment` is where its agent is when the link fails; empty: before there is one. `fault`
    is `cut` (every packet is lost), `frozen` (bytes stop, and the connection stays: its
    sshd is suspended) or `killed` (the agent, with the link alive). `heals`: the link
    comes back while the command still tries. `then` is what the next push says.
    """

    moment: str
    fault: str
    code: str
    says: str
    stands: int
    then: str
    heals: bool = False
    check_fails: bool = False


PUSHED = ""
RESUMES = "run the same command again: it resumes"
CASES = {
    # The one that is given up last comes first: eight are served at a time.
    "never again": Case(
        "switched", "cut", "connection-lost", "the old or the new version is there, "
        "complete", NEW, "in-step",
    ),
    "switch": Case("switched", "cut", PUSHED, "", NEW, "in-step", heals=True),
    "check": Case(
        "check", "cut", "check-failed", "the previous version is live again", OLD, "held",
        heals=True, check_fails=True,
    ),
    "record": Case("record", "frozen", PUSHED, "", NEW, "in-step", heals=True),
    "inspecting": Case("target.inspect", "cut", "connection-lost", RESUMES, OLD, "pushed"),
    "manifest": Case("build.stage", "frozen", "connection-lost", RESUMES, OLD, "pushed"),
    "transfer": Case("receiving", "cut", "connection-lost", RESUMES, OLD, "pushed"),
    "verifying": Case("build.complete", "cut", "connection-lost", RESUMES, OLD, "pushed"),
    "stalled": Case("receiving", "frozen", "connection-lost", RESUMES, OLD, "pushed"),
    "before the switch": Case(
        "sync", "killed", "connection-lost", "before the switch; nothing was published", OLD,
        "pushed",
    ),
    "connecting": Case("", "cut", "connection-failed", "does not answer", OLD, "pushed"),
    "handshake": Case("", "frozen", "connection-failed", "sends no SSH banner", OLD, "pushed"),
}  # fmt: skip


class Fault:
    """One case on one server."""

    def __init__(self, host: LabHost, case: Case) -> None:
        self.host = host
        self.case = case
        self._stop: Stop | None = None
        if case.check_fails:
            host.write_file("/run/lab/bad", "")

    def prepare(self) -> None:
        """Before the command starts."""
        if self.case.moment:
            self._stop = Stop(self.host, self.case.moment)
        else:
            self._break()

    def strike(self) -> None:
        """When the agent is where it has to be."""
        if self._stop is None:
            return
        if self.case.fault == "killed":
            self._stop.kill()
            return
        self._stop.wait()
        self._break()
        self._stop.go_on()

    def _break(self) -> None:
        if self.case.fault == "cut":
            self.host.cut()
        else:
            self.host.freeze_sshd()

    def wait_quiet(self) -> None:
        """No agent is at work there any more."""
        wait_until(lambda: is_quiet(self.host), f"quiet on {self.host.name}", timeout_seconds=30)

    def heal(self) -> None:
        self.host.restore()
        self.host.thaw_sshd()


@pytest.fixture(scope="module")
def wide_lab() -> Iterator[Lab]:
    """A controller and a server for each case."""
    demand_lab()
    with Lab.start([f"server{number}" for number in range(1, len(CASES) + 2)]) as lab:
        try:
            yield lab
        finally:
            # What stands still cannot be ended.
            for host in lab.targets:
                host.thaw_sshd()


@pytest.fixture(scope="module")
def source(wide_lab: Lab) -> Stamped:
    return Stamped.in_lab(wide_lab)


@pytest.fixture(scope="module")
def command(wide_lab: Lab) -> Envsync:
    controller = wide_lab.controller
    envsync = plant(controller, silence_seconds=SILENCE_SECONDS)
    servers = ", ".join(f"{name}: {{}}" for name in wide_lab.hosts)
    envsync.configure(
        f"prefix: {controller.prefix}\nservers: {{{servers}}}\n"
        "environments: {myenv: {check: 'test ! -e /run/lab/bad', check_timeout: 2s}}\n"
    )
    return envsync


def by_name(servers: list[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    return {server["server"]: server for server in servers}


def test_links_fail_in_every_phase(wide_lab: Lab, source: Stamped, command: Envsync) -> None:
    names = [host.name for host in wide_lab.targets]
    first = command.push(*names)
    assert {server["outcome"] for server in first.servers} == {"pushed"}
    source.change()
    faults = {
        host.name: Fault(host, case)
        for host, case in zip(wide_lab.targets, CASES.values(), strict=True)
    }
    for fault in faults.values():
        fault.prepare()
    process = command.start("push", "myenv", *names)
    for fault in faults.values():
        fault.strike()
    for fault in faults.values():
        fault.wait_quiet()
        if fault.case.heals:
            fault.heal()
    ran = finish(process, timeout_seconds=60)
    assert ran.exit_code == 20, ran.document
    for fault in faults.values():
        fault.heal()
    reports = by_name(ran.servers)
    wrong = {
        name: reports[host.name] for name, host in zip(CASES, wide_lab.targets, strict=True)
        if not is_as_expected(reports[host.name], faults[host.name])
    }  # fmt: skip
    assert wrong == {}
    assert_goes_on(command, source, faults)


def is_as_expected(report: Mapping[str, Any], fault: Fault) -> bool:
    case, error = fault.case, report["error"]
    if version_at(fault.host) != case.stands:
        return False
    if case.code == PUSHED:
        return error is None and report["outcome"] == "pushed"
    return (
        error is not None
        and error["code"] == case.code
        and case.says in f"{error['message']}\n{error['hint']}"
        and error["hint"] != ""
    )


def assert_goes_on(command: Envsync, source: Stamped, faults: Mapping[str, Fault]) -> None:
    """The links are back: the next push does what is left, and only that."""
    for fault in faults.values():
        fault.wait_quiet()
    again = by_name(command.run("push", "myenv", *faults).servers)
    for name, fault in faults.items():
        report = again[name]
        said = report["outcome"] if report["error"] is None else report["error"]["code"]
        assert said == fault.case.then, report
        assert not (state(fault.host) / "intent.json").exists()
        if fault.case.moment in ("receiving", "build.complete"):
            assert report["plan"]["origin"] == "resumed"
            assert report["plan"]["fetch_bytes"] < source.size_bytes
