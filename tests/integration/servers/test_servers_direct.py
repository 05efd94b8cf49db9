"""`push --from`: directly from the one server to the other where the one gets in by itself."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator

import pytest

from tests.integration.push.command import Envsync, finish
from tests.integration.push.stamped import Stamped, version_at
from tests.integration.push.tree_listing import assert_same, tree
from tests.integration.servers.inventories import INVENTORY
from tests.integration.ssh.agents import listens
from tests.lab.lab import Lab, LabHost
from tests.support.processes import wait_until

pytestmark = pytest.mark.timeout(120)

LARGE_BYTES = 17 << 20
# A Python that was built against an old C library, as conda's often are.
OLD_BUILD = """#!/bin/sh
exec /usr/bin/env python3 -S -I -B -c 'import os, sys
for name in ("O_PATH", "SEEK_DATA", "SEEK_HOLE", "memfd_create", "pidfd_open"):
    vars(os).pop(name, None)
exec(sys.argv.pop())' "$5"
"""


def test_directly_or_through_this_machine(fresh_lab: Lab) -> None:
    source = Stamped.in_lab(fresh_lab)
    server1, server2, server3 = (fresh_lab[f"server{number}"] for number in (1, 2, 3))
    envsync = Envsync(server2)
    envsync.configure(INVENTORY.format(prefix=server2.prefix))
    large, there = source.top / "large", server3.path(f"{server3.prefix}/envs/myenv")

    def push() -> tuple[str, str]:
        source.change()
        large.write_bytes(os.urandom(LARGE_BYTES))
        told = envsync.push("server3", "--from", "server1").server
        assert told["outcome"] == "pushed"
        assert version_at(server3) == source.version
        assert (there / "large").read_bytes() == large.read_bytes()
        return told["transport"], told["transport_reason"]

    assert push() == ("direct", "the source logs in to the target by itself")
    assert_same(tree(source.top), tree(there))
    source.change()
    little = envsync.push("server3", "--from", "server1").server
    assert (little["transport"], little["outcome"]) == ("stream", "pushed")
    assert "there is little to send" in little["transport_reason"]

    # By its own configuration, that name is another server: which writes nothing.
    config = server1.path(f"{server1.home()}/.ssh/config")
    before = config.read_text() if config.exists() else ""
    key_of = f"HostName {server2.address}\n  HostKeyAlias server2\n"
    config.write_text(f"Host server3\n  {key_of}{before}")
    transport, reason = push()
    assert transport == "stream"
    assert reason.startswith("through this machine: rsync from server1 failed (")
    assert not server2.path(f"{server2.prefix}/envs/myenv").exists()
    envsync.ok("verify", "myenv", "server3")

    # Without a key of its own it is no way; nothing of ours is lent to it.
    config.write_text("Host *\n  IdentityFile /nowhere\n  IdentitiesOnly yes\n")
    transport, reason = push()
    assert transport == "stream"
    assert "server1 cannot log in there by itself" in reason
    assert "Permission denied" in reason


def test_directly_between_servers_whose_python_was_built_on_an_old_system(
    fresh_lab: Lab,
) -> None:
    source = Stamped.in_lab(fresh_lab)
    (source.top / "large").write_bytes(os.urandom(LARGE_BYTES))
    server1, server2, server3 = (fresh_lab[f"server{number}"] for number in (1, 2, 3))
    for host in (server1, server3):
        host.write_file(f"{host.prefix}/bin/python", OLD_BUILD, 0o755)
    envsync = Envsync(server2)
    envsync.configure(INVENTORY.format(prefix=server2.prefix))
    told = envsync.push("server3", "--from", "server1").server
    assert (told["outcome"], told["transport"]) == ("pushed", "direct")
    assert_same(tree(source.top), tree(server3.path(f"{server3.prefix}/envs/myenv")))


@contextlib.contextmanager
def agent_on(host: LabHost) -> Iterator[dict[str, str]]:
    """An agent of the user there, with the key that every host of the lab takes."""
    variables = {"SSH_AUTH_SOCK": "/run/lab/agent"}
    process = host.popen(["ssh-agent", "-D", "-a", variables["SSH_AUTH_SOCK"]])
    try:
        wait_until(lambda: listens(host.path(variables["SSH_AUTH_SOCK"])), "the agent listens")
        host.run(["ssh-add", "-q", f"{host.home()}/.ssh/id_ed25519"], env=variables)
        yield variables
    finally:
        process.kill()
        process.communicate()


def test_direct_push_uses_the_ssh_agent_where_it_is_forwarded(fresh_lab: Lab) -> None:
    source = Stamped.in_lab(fresh_lab)
    server1, server2, server3 = (fresh_lab[f"server{number}"] for number in (1, 2, 3))
    envsync = Envsync(server2)
    envsync.configure(INVENTORY.format(prefix=server2.prefix))
    large, there = source.top / "large", server3.path(f"{server3.prefix}/envs/myenv")
    known = server1.path(f"{server1.home()}/.ssh/config")
    without_key = "Host *\n  IdentityFile /nowhere\n"
    before = known.read_text() if known.exists() else ""
    ours = server2.path(f"{server2.home()}/.ssh/config")
    unforwarded = ours.read_text() if ours.exists() else ""

    def push(*options: str) -> tuple[str, str, bool]:
        source.change()
        large.write_bytes(os.urandom(LARGE_BYTES))
        told = envsync.push("server3", "--from", "server1", *options).server
        if not options:
            assert version_at(server3) == source.version
            assert (there / "large").read_bytes() == large.read_bytes()
        if told["agent_forwarded"]:
            assert "forwarded" in told["transport_reason"]
        return told["transport"], told["route"], told["agent_forwarded"]

    with agent_on(server2) as variables:
        envsync.environment.update(variables)
        known.write_text(without_key + before)
        assert push() == ("stream", "through this machine", False)
        ours.write_text(f"Host server1\n  ForwardAgent yes\n{unforwarded}")
        assert push("--dry-run")[::2] == ("direct", True)
        assert push() == ("direct", "direct, with your forwarded agent", True)
        # With a key of its own, it needs nothing of ours.
        known.write_text(before)
        assert push() == ("direct", "direct", False)
        # In vain: its configuration offers no key of an agent.
        known.write_text(f"{without_key}  IdentitiesOnly yes\n{before}")
        assert push() == ("stream", "through this machine", True)
        known.write_text(without_key + before)
    # There is no agent any more.
    assert push() == ("stream", "through this machine", False)


def test_a_source_that_dies_is_told_by_its_own_name(fresh_lab: Lab) -> None:
    """While its contents go through this machine: the target takes what comes, and is well."""
    Stamped.in_lab(fresh_lab, file_bytes=60_000)
    server1, server2 = fresh_lab["server1"], fresh_lab["server2"]
    envsync = Envsync(server2)
    envsync.configure(INVENTORY.format(prefix=server2.prefix))
    config = server1.path(f"{server1.home()}/.ssh/config")
    config.write_text("Host *\n  IdentityFile /nowhere\n  IdentitiesOnly yes\n")
    there = fresh_lab["server3"].path(f"{server2.prefix}/envs/.envsync/myenv/trees")
    server1.limit("4mbit")
    process = envsync.start("push", "myenv", "server3", "--from", "server1")
    try:
        wait_until(lambda: any(there.glob("*/stamps/*")), "contents arrive", timeout_seconds=60)
        for pid in server1.processes("python.*-I"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        told = finish(process, 90)
    finally:
        server1.unlimit()
    # Its agent ended, or its link did: whichever is seen first.
    assert told.exit_code in (6, 7)
    assert told.error["server"] == "server1"
    assert envsync.push("server3", "--from", "server1").server["outcome"] == "pushed"
