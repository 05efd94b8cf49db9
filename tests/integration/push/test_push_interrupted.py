"""A push that is cut off in the middle of its transfer: told clearly, unlocked, resumed."""

from __future__ import annotations

import contextlib
import os
import signal

import pytest

from tests.integration.push.command import Envsync, finish
from tests.integration.push.places import environment, staged_bytes, trees
from tests.integration.push.planted import Stop, plant
from tests.integration.push.stamped import (
    Reader,
    Stamped,
    is_quiet,
    version_at,
    wait_quiet,
)
from tests.lab.lab import Lab, LabHost
from tests.support.processes import wait_until

TARGET = "server2"
SILENCE_SECONDS = 5.0
SLOW = "6mbit"
"""So slow that seconds of the transfer are left for what befalls it, on a busy machine too."""
RESUMABLE_BYTES = 1_500_000


def wait_mid_transfer(host: LabHost, more_bytes: int = 500_000) -> None:
    start = staged_bytes(host)
    wait_until(
        lambda: staged_bytes(host) > start + more_bytes,
        "bytes arrive in the staging tree",
        timeout_seconds=30,
    )


def assert_resumed(envsync: Envsync, source: Stamped, target: LabHost, transport: str) -> None:
    """The same command again sends only what had not arrived."""
    wait_quiet(target)
    after = envsync.push(TARGET, "--transport", transport).server
    assert after["outcome"] == "pushed"
    assert after["plan"]["origin"] == "resumed"
    assert 0 < after["wire_bytes"] < source.size_bytes - 300_000
    assert version_at(target) == source.version
    assert len(trees(target)) <= 1


@pytest.mark.parametrize("transport", ["stream", "rsync", "scp"])
@pytest.mark.parametrize("side", ["command", "target"])
def test_a_transfer_is_killed(source: Stamped, fresh_lab: Lab, transport: str, side: str) -> None:
    """The command, or everything of it on the target: agent, rsync's receiver, SFTP."""
    target, envsync = fresh_lab[TARGET], Envsync(fresh_lab.controller)
    envsync.push(TARGET)
    source.change()
    target.limit(SLOW)
    with Reader(target):
        process = envsync.start("push", "myenv", TARGET, "--transport", transport)
        wait_mid_transfer(target)
        if side == "command":
            process.kill()
            process.communicate()
        else:
            for pid in target.processes(r"rsync --server|-I -B -c|sftp-server|sshd: \w+@"):
                with contextlib.suppress(ProcessLookupError):  # it ended with another one
                    target.kill(pid)
            ran = finish(process)
            assert ran.exit_code in (6, 17), ran.document
        target.unlimit()
        assert version_at(target) == source.version - 1
        wait_until(
            lambda: not fresh_lab.controller.processes("rsync|ssh "),
            "nothing of it is left here",
            timeout_seconds=20,
        )
        assert_resumed(envsync, source, target, transport)


@pytest.mark.parametrize("side", ["here", "there"])
def test_rsync_is_killed(source: Stamped, fresh_lab: Lab, side: str) -> None:
    """Only it: the command lives, and says so."""
    controller, target = fresh_lab.controller, fresh_lab[TARGET]
    envsync = Envsync(controller)
    envsync.push(TARGET)
    source.change()
    target.limit(SLOW)
    with Reader(target):
        process = envsync.start("push", "myenv", TARGET, "--transport", "rsync")
        wait_mid_transfer(target)
        host, pattern = (controller, "^rsync|/rsync") if side == "here" else (target, "^rsync")
        found = host.processes(pattern)
        assert found
        host.kill(found[0])
        ran = finish(process)
        assert ran.exit_code in (6, 17), ran.document
        assert version_at(target) == source.version - 1
        target.unlimit()
        assert_resumed(envsync, source, target, "rsync")


def test_ctrl_c_leaves_everything_resumable(source: Stamped, fresh_lab: Lab) -> None:
    target, envsync = fresh_lab[TARGET], Envsync(fresh_lab.controller)
    target.limit(SLOW)
    process = envsync.start("push", "myenv", TARGET)
    wait_mid_transfer(target, RESUMABLE_BYTES)
    process.send_signal(signal.SIGINT)
    ran = finish(process)
    assert ran.exit_code == 130
    assert ran.error["code"] == "interrupted"
    assert not environment(target).exists()
    wait_quiet(target)
    target.unlimit()
    after = envsync.push(TARGET).server
    assert after["plan"]["origin"] == "resumed"
    assert after["plan"]["fetch_bytes"] < source.size_bytes - 1_000_000
    assert version_at(target) == source.version


def test_a_dry_run_counts_what_has_arrived_of_a_file(source: Stamped, fresh_lab: Lab) -> None:
    target, envsync = fresh_lab[TARGET], Envsync(fresh_lab.controller)
    large = environment(fresh_lab.controller) / "large.bin"
    large.write_bytes(os.urandom(24 << 20))
    target.limit("80mbit")
    process = envsync.start("push", "myenv", TARGET)
    wait_mid_transfer(target, 14 << 20)
    process.send_signal(signal.SIGINT)
    finish(process)
    wait_quiet(target)
    target.unlimit()
    planned = envsync.push(TARGET, "--dry-run").server["predicted_wire_bytes"]
    sent = envsync.push(TARGET).server["wire_bytes"]
    assert sent < 14 << 20, "what had arrived was sent again"
    assert 0.7 < planned / sent < 1.3


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)]
)
def test_a_command_stopped_during_the_switch_says_what_may_be_there(
    source: Stamped, fresh_lab: Lab, number: signal.Signals, status: int
) -> None:
    target, envsync = fresh_lab[TARGET], plant(fresh_lab.controller)
    envsync.push(TARGET)
    source.change()
    stop = Stop(target, "switched")
    process = envsync.start("push", "myenv", TARGET)
    stop.wait()
    process.send_signal(number)
    ran = finish(process)
    stop.go_on()
    assert (ran.exit_code, ran.error["code"]) == (status, "interrupted")
    assert ran.server["error"]["code"] == "connection-lost"
    assert "stopped during the switch" in ran.server["error"]["message"]
    assert f"`envsync list {TARGET}` shows which" in ran.server["error"]["hint"]
    wait_quiet(target)
    assert version_at(target) == source.version
    assert envsync.push(TARGET).server["outcome"] == "in-step"


def test_whoever_is_stopped_in_a_long_check_is_told_of_it_until_it_is_over(
    source: Stamped, fresh_lab: Lab
) -> None:
    target, envsync = fresh_lab[TARGET], Envsync(fresh_lab.controller)
    envsync.configure(
        f"prefix: {target.prefix}\nservers: {{server1: {{}}, {TARGET}: {{}}}}\n"
        "environments: {myenv: {check: 'touch /run/lab/checking; "
        "while [ ! -e /run/lab/go ]; do sleep 0.05; done'}}\n"
    )
    process = envsync.start("push", "myenv", TARGET)
    wait_until(target.path("/run/lab/checking").exists, "it is checked", timeout_seconds=30)
    process.send_signal(signal.SIGINT)
    assert finish(process).exit_code == 130
    again = envsync.push(TARGET, expect=14)
    told = again.server["error"]
    assert "its command is gone, but its switch and check go on" in told["message"]
    assert "until its check has ended" in told["hint"]
    [listed] = envsync.ok("list", TARGET).server["environments"]
    assert listed["problem"].endswith("is being published; its check is not over")
    target.write_file("/run/lab/go", "")
    wait_quiet(target)
    assert envsync.push(TARGET).server["outcome"] == "in-step"
    [listed] = envsync.ok("list", TARGET).server["environments"]
    assert listed["problem"] == ""
    assert version_at(target) == source.version


def test_the_link_is_cut_and_comes_back(source: Stamped, fresh_lab: Lab) -> None:
    target = fresh_lab[TARGET]
    envsync = plant(fresh_lab.controller, silence_seconds=SILENCE_SECONDS)
    total = envsync.push(TARGET).server["wire_bytes"]
    source.change()
    with Reader(target):
        target.limit(SLOW)
        process = envsync.start("push", "myenv", TARGET)
        wait_mid_transfer(target, RESUMABLE_BYTES)
        target.cut()
        # Which is not waited for as long as for silence by its real bound, of a minute.
        ran = finish(process)
        assert ran.exit_code == 6, ran.document
        assert ran.error["server"] == TARGET
        assert "resumes" in ran.error["hint"]
        wait_quiet(target)  # the agent has noticed, too
        target.restore()
        target.unlimit()
        assert version_at(target) == source.version - 1
        after = envsync.push(TARGET).server
        assert after["plan"]["origin"] == "resumed"
        assert after["wire_bytes"] < total - 1_000_000
        assert version_at(target) == source.version


@pytest.mark.timeout(150)
def test_a_frozen_server_ends_its_own_push_only(source: Stamped, fresh_lab: Lab) -> None:
    """With the real bound of a minute: it is one line in the report, the others are done."""
    frozen, other = fresh_lab.targets
    envsync = plant(fresh_lab.controller)
    stop = Stop(frozen, "receiving")
    process = envsync.start("push", "myenv", frozen.name, other.name)
    stop.wait()
    frozen.cut()
    stop.go_on()
    ran = finish(process, timeout_seconds=120)
    assert ran.exit_code == 20, ran.document
    by_name = {server["server"]: server for server in ran.servers}
    assert by_name[frozen.name]["error"]["code"] == "connection-lost"
    assert by_name[other.name]["outcome"] == "pushed"
    wait_until(lambda: is_quiet(frozen), "the agent unlocks", timeout_seconds=30)
    frozen.restore()
    assert envsync.push(frozen.name).server["plan"]["origin"] == "resumed"


def test_a_slow_link_that_loses_packets(source: Stamped, fresh_lab: Lab) -> None:
    """1 % of them, at 4 MB/s: slower, and as whole."""
    target, envsync = fresh_lab[TARGET], Envsync(fresh_lab.controller)
    envsync.push(TARGET)
    target.lose(0.01, rate="32mbit")
    with Reader(target):
        for transport in ("stream", "rsync", "scp"):
            source.change()
            pushed = envsync.push(TARGET, "--transport", transport).server
            assert (pushed["outcome"], pushed["transport"]) == ("pushed", transport)
            assert version_at(target) == source.version
    assert target.lost_packets() > 0
    envsync.ok("verify", "myenv", TARGET)
