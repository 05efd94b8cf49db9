"""Servers as labs have them: login shells, files and sshds that most never think of."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from envsync.agent.operations import bootstrap
from tests.integration.push.command import Envsync, finish
from tests.integration.push.places import environment, state
from tests.integration.push.stamped import Stamped, version_at
from tests.lab.host import INTERFACE
from tests.lab.lab import Lab, LabHost
from tests.support.processes import wait_until

TRANSPORTS = ("stream", "rsync", "scp")
NOISE_LIMIT_BYTES = 64 << 10


@pytest.fixture
def envsync(fresh_lab: Lab) -> Envsync:
    return Envsync(fresh_lab.controller)


@pytest.fixture
def target(fresh_lab: Lab) -> Iterator[LabHost]:
    """Whose accounts and authorized keys may be changed."""
    host = fresh_lab["server2"]
    passwd = host.path("/etc/passwd")
    before = passwd.read_text()
    yield host
    passwd.write_text(before)


def set_login_shell(host: LabHost, shell: str) -> None:
    passwd = host.path("/etc/passwd")
    line = re.compile(rf"^({host.user}:.*:)[^:]*$", re.MULTILINE)
    passwd.write_text(line.sub(lambda found: found[1] + shell, passwd.read_text()))


def authorized_keys(host: LabHost) -> Path:
    return host.path(f"{host.home()}/.ssh/authorized_keys")


def nothing_stands_there(host: LabHost) -> bool:
    return not environment(host).exists() and not state(host).exists()


@pytest.fixture
def ipv6_target(target: LabHost, fresh_lab: Lab) -> Iterator[str]:
    """The target's address of IPv6; its sshd listens there at the ports 22 and 2222."""
    hosts = {fresh_lab.controller: "fd91::11", target: "fd91::12"}
    for host, address in hosts.items():
        host.namespaces.set_up(
            "ip", "-6", "addr", "add", f"{address}/64", "dev", INTERFACE, "nodad"
        )
    listen = "".join(f"ListenAddress [{hosts[target]}]:{port}\n" for port in (22, 2222))
    target.start_sshd(listen)
    known = fresh_lab.controller.path(f"{fresh_lab.controller.home()}/.ssh/known_hosts")
    key = next(line for line in known.read_text().splitlines() if line.startswith("server2"))
    names = f"{hosts[target]},[{hosts[target]}]:2222"
    known.write_text(f"{names} {key.partition(' ')[2]}\n")
    yield hosts[target]
    for host, address in hosts.items():
        host.namespaces.set_up("ip", "-6", "addr", "del", f"{address}/64", "dev", INTERFACE)


@pytest.fixture
def second_address(target: LabHost, fresh_lab: Lab) -> Iterator[str]:
    """A further one of the controller's, and the only one that the target answers."""
    controller = fresh_lab.controller
    second = f"{controller.address.rpartition('.')[0]}.99"
    address = (f"{second}/24", "dev", INTERFACE)
    silent = ("blackhole", f"{controller.address}/32")
    controller.namespaces.set_up("ip", "addr", "add", *address)
    target.namespaces.set_up("ip", "route", "add", *silent)
    yield second
    controller.namespaces.set_up("ip", "addr", "del", *address)
    target.namespaces.set_up("ip", "route", "del", *silent)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_an_address_of_this_machine_that_the_server_wants(
    envsync: Envsync, source: Stamped, target: LabHost, second_address: str, transport: str
) -> None:
    config = f"Host server2\n  BindAddress {second_address}\n"
    envsync.host.write_file(f"{envsync.host.home()}/.ssh/config", config)
    report = envsync.push("server2", "--transport", transport).server
    assert version_at(target) == source.version
    assert report["connection_reason"] == f"BindAddress {second_address} for server2"


@pytest.mark.parametrize("shell", ["tcsh", "fish"])
def test_push_works_with_any_login_shell(
    envsync: Envsync, source: Stamped, target: LabHost, shell: str
) -> None:
    set_login_shell(target, shutil.which(shell) or shell)
    target.write_file(f"{target.home()}/.cshrc", "set noclobber\nalias ls ls -F\n")
    for transport in TRANSPORTS:
        version = source.change()
        envsync.push("server2", "--transport", transport)
        assert version_at(target) == version


def test_chatty_login_files(envsync: Envsync, source: Stamped, target: LabHost) -> None:
    def chatter(size_bytes: int) -> None:
        script = f"head -c {size_bytes} /dev/zero | tr '\\\\0' x\n"
        target.write_file(f"{target.home()}/.bashrc", script)

    set_login_shell(target, "/bin/bash")
    chatter(NOISE_LIMIT_BYTES + 1)
    ran = envsync.push("server2", expect=7)
    assert ran.error["message"] == "its login files print more than 64 KiB"
    assert nothing_stands_there(target)
    chatter(NOISE_LIMIT_BYTES)
    envsync.push("server2")
    assert version_at(target) == source.version
    version = source.change()
    for size_bytes in (NOISE_LIMIT_BYTES, 12):
        chatter(size_bytes)
        ran = envsync.push("server2", "--transport", "rsync", expect=17)
        assert "login files print something, which rsync cannot skip" in ran.error["message"]
        assert version_at(target) == version - 1
        assert [*(state(target) / "trees").iterdir()] == [], "nothing was staged"


def test_a_chatty_rsync(envsync: Envsync, source: Stamped, target: LabHost) -> None:
    """Login files are not to blame where they print nothing."""
    set_login_shell(target, "/bin/bash")
    script = f'[ "$1" != --server ] || echo hello\nexec {shutil.which("rsync")} "$@"\n'
    target.write_file("/run/lab/bin/rsync", f"#!/bin/sh\n{script}", 0o755)
    target.write_file(f"{target.home()}/.bashrc", "PATH=/run/lab/bin:$PATH\n")
    ran = envsync.push("server2", "--transport", "rsync", expect=17)
    assert ran.error["message"].startswith("its rsync prints something before it starts")


def test_slow_login_files(envsync: Envsync, source: Stamped, target: LabHost) -> None:
    set_login_shell(target, "/bin/bash")
    here, go = "/run/lab/logging-in", "/run/lab/go"
    script = f"echo good morning; touch {here}; while [ ! -e {go} ]; do sleep 0.05; done\n"
    target.write_file(f"{target.home()}/.bashrc", script)
    process = envsync.start("push", "myenv", "server2")
    wait_until(target.path(here).exists, "it logs in", timeout_seconds=30)
    target.write_file(go, "")
    assert finish(process).exit_code == 0
    assert version_at(target) == source.version


def test_a_banner_of_many_lines(envsync: Envsync, source: Stamped, target: LabHost) -> None:
    target.write_file("/run/lab/banner", "No \x1b[31mtrespassing\r\n" * 3000, 0o644)
    target.start_sshd("Banner /run/lab/banner\n")
    for transport in ("stream", "rsync"):
        version = source.change()
        ran = envsync.push("server2", "--transport", transport)
        assert version_at(target) == version
        assert "trespassing" not in ran.stderr


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (
            bootstrap.EXIT_NO_PYTHON,
            "there is no Python: neither in the prefix nor `python3` on the PATH",
        ),
        (bootstrap.EXIT_OLD_PYTHON, "its Python is too old: 3.8 or newer is needed"),
    ],
    ids=["no Python", "an old Python"],
)
def test_server_without_a_usable_python_is_reported(
    envsync: Envsync, source: Stamped, target: LabHost, status: int, message: str
) -> None:
    """The agent's own tests show that its command ends so on such a server."""
    target.start_sshd(f"ForceCommand exit {status}\n")
    assert envsync.push("server2", expect=7).error["message"] == message
    assert nothing_stands_there(target)


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (
            "#!/bin/sh\necho $0: error while loading shared libraries >&2\nexit 127\n",
            "the prefix's Python does not start: {}: error while loading shared libraries",
        ),
        (
            f"#!/bin/sh\nexit {bootstrap.EXIT_OLD_PYTHON}\n",
            "its Python is too old: 3.8 or newer is needed",
        ),
        ("#!/no/such/python\n", "the prefix's Python does not start: env: "),
        ("#!/bin/sh\nkill -SEGV $$\n", "the prefix's Python does not start: SIGSEGV ends it"),
    ],
    ids=["a library is missing", "an old Python", "no interpreter", "a signal ends it"],
)
def test_python3_serves_where_the_prefixs_python_does_not_start(
    envsync: Envsync, source: Stamped, target: LabHost, script: str, message: str
) -> None:
    python = f"{target.prefix}/bin/python"
    target.write_file(python, script, 0o755)
    for transport in TRANSPORTS:
        version = source.change()
        envsync.push("server2", "--transport", transport)
        assert version_at(target) == version
    assert f"{python} does not start (" in str(envsync.ok("doctor", "server2").document)
    set_login_shell(target, "/bin/bash")
    target.write_file("/run/lab/bin/python3", "#!/bin/sh\nexit 1\n", 0o755)
    target.write_file(f"{target.home()}/.bashrc", "PATH=/run/lab/bin:$PATH\n")
    error = envsync.push("server2", expect=7).error
    assert error["message"].startswith(message.format(python))


@pytest.mark.parametrize("means", ["command=", "ForceCommand", "nologin"])
def test_server_that_runs_another_command_is_reported(
    envsync: Envsync, source: Stamped, target: LabHost, means: str
) -> None:
    if means == "command=":
        keys = authorized_keys(target)
        keys.write_text(f'command="echo no" {keys.read_text()}')
    elif means == "ForceCommand":
        target.start_sshd("ForceCommand echo no >&2; exit 1\n")
    else:
        set_login_shell(target, "/usr/sbin/nologin")
    ran = envsync.push("server2", expect=7)
    assert ran.error["message"] == "it runs something else instead of the command that it was sent"
    said = "This account is currently not available." if means == "nologin" else "no"
    assert said in ran.error["details"]
    assert nothing_stands_there(target)


@pytest.mark.parametrize("status", ["0", "1", "3"])
def test_hint_leads_to_login_files_that_exit(
    envsync: Envsync, source: Stamped, target: LabHost, status: str
) -> None:
    set_login_shell(target, "/bin/bash")
    target.write_file(f"{target.home()}/.bashrc", f'[ -n "$PS1" ] || exit {status}\n')
    hint = envsync.push("server2", expect=7).error["hint"]
    assert 0 < hint.index("login files") < hint.index("ForceCommand")


def test_server_that_changes_the_command_is_reported_with_one_to_try(
    envsync: Envsync, source: Stamped, target: LabHost
) -> None:
    target.start_sshd("ForceCommand exec $SSH_ORIGINAL_COMMAND\n")
    ran = envsync.push("server2", expect=7)
    assert ran.error["message"] == "the agent did not start (exit status 127)"
    command = f'exec env PATH={target.prefix}/bin:"$PATH" python3 --version'
    assert ran.error["hint"].endswith(f"@server2 {shlex.quote(command)}")


def test_sshd_that_allows_one_session_a_connection_gets_the_push(
    envsync: Envsync, source: Stamped, target: LabHost
) -> None:
    target.start_sshd("MaxSessions 1\n")
    for transport in TRANSPORTS:
        version = source.change()
        envsync.push("server2", "--transport", transport)
        assert version_at(target) == version
    target.start_sshd("MaxSessions 0\n")
    ran = envsync.push("server2", expect=3)
    assert ran.error["message"] == "server2 opens no session"
    assert "MaxSessions" in ran.error["hint"]
    assert version_at(target) == source.version


def test_push_works_over_ipv6(
    fresh_lab: Lab, envsync: Envsync, source: Stamped, target: LabHost, ipv6_target: str
) -> None:
    envsync.push(ipv6_target)
    assert version_at(target) == source.version
    envsync.configure(
        f"prefix: {target.prefix}\n"
        "servers:\n"
        "  server1: {}\n"
        f"  six: {{host: '{ipv6_target}', port: 2222}}\n"
    )
    for transport in ("rsync", "scp"):
        version = source.change()
        ran = envsync.push("six", "--transport", transport)
        assert ran.server["transport"] == transport
        assert version_at(target) == version
    # Unknown at that port now: the message is one that can be typed.
    known = fresh_lab.controller.path(f"{fresh_lab.controller.home()}/.ssh/known_hosts")
    known.write_text("")
    ran = envsync.push("six", expect=4)
    assert f"host key of [{ipv6_target}]:2222 is not in known_hosts" in ran.error["message"]
    command = ran.error["hint"].partition("then: ")[2]
    assert command.startswith(f"ssh-keyscan -H -p 2222 {ipv6_target} >> ")
    fresh_lab.controller.run(["sh", "-c", command])
    envsync.ok("list", "six")
