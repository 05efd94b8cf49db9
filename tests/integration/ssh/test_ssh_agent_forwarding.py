"""The user's own agent on a server: only where their ssh configuration forwards it, only on the
link that was asked for it, and only until that is closed."""

from __future__ import annotations

import contextlib
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from envsync.ssh.choice import FABRIC
from envsync.ssh.opening import open_link
from envsync.ssh.openssh_link import open_route
from envsync.ssh.route import ResolvedRoute
from envsync.ssh.session import Address, Link, Timeouts
from tests.integration.ssh import agents
from tests.integration.ssh.agents import ssh_add
from tests.integration.ssh.logins import add_config, make_key
from tests.integration.ssh.masters import UsersMaster
from tests.integration.ssh.session_contract import read_all, sh
from tests.lab.loopback_sshd import LoopbackSshd
from tests.support.processes import wait_until

LIST = 'echo "[${SSH_AUTH_SOCK:+agent}]"; ssh-add -l 2>/dev/null | grep -c SHA256'
ASKED = re.compile(r"channel \d+ request (?:auth-agent-req@openssh\.com|agent-req) ")
"""In sshd's log at LogLevel DEBUG: by OpenSSH's name for it, or by the one of the IETF's draft."""
NONE, LENT = "[]\n0\n", "[agent]\n1\n"


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[dict[str, str]]:
    with agents.agent(tmp_path / "agent") as variables:
        ssh_add(variables, make_key(tmp_path / "key"))
        yield variables


def said(link: Link, command: str) -> str:
    session = link.run(sh(command))
    try:
        return read_all(session).decode()
    finally:
        session.close()


@contextlib.contextmanager
def links(
    sshd: LoopbackSshd, agent: dict[str, str], address: Address | None = None
) -> Iterator[tuple[Link, Link | None]]:
    """An ordinary link, and the one that lends the agent."""
    environ = {**sshd.environ, **agent}
    link = open_link(address or sshd.address, environ=environ)
    with contextlib.closing(link), lent_by(link) as lending:
        yield link, lending


@contextlib.contextmanager
def lent_by(link: Link) -> Iterator[Link | None]:
    """The link that lends the agent; in the end sshd has taken the agent's socket away."""
    lending = link.with_agent_forwarding()
    if lending is None:
        yield None
        return
    with contextlib.closing(lending):
        socket = Path(said(lending, "echo $SSH_AUTH_SOCK").strip() or "/nowhere")
        yield lending
    wait_until(lambda: not socket.exists(), "sshd has taken the socket away")


@pytest.mark.parametrize("how", ["yes", "$SSH_AUTH_SOCK", "path"])
def test_ssh_agent_is_lent_where_the_configuration_forwards_it(
    sshd: LoopbackSshd, agent: dict[str, str], how: str
) -> None:
    add_config(sshd, f"ForwardAgent {agent['SSH_AUTH_SOCK'] if how == 'path' else how}")
    with links(sshd, agent) as (link, lending):
        assert lending is not None
        assert link.chosen.name == FABRIC
        assert said(lending, LIST) == said(lending, LIST) == LENT
        # Nothing else has it: neither what was there before, nor what is started now.
        assert said(link, LIST) == NONE


@pytest.mark.parametrize(
    "lines",
    [(), ("ForwardAgent no",), ("ForwardAgent none",), ("ForwardAgent yes", "IdentityAgent none")],
)
def test_ssh_agent_is_not_lent_without_a_configuration_that_says_so(
    sshd: LoopbackSshd, agent: dict[str, str], lines: tuple[str, ...]
) -> None:
    add_config(sshd, *lines)
    with links(sshd, agent) as (_, lending):
        assert lending is None


def test_ssh_agent_that_does_not_listen_is_not_lent(sshd: LoopbackSshd, tmp_path: Path) -> None:
    add_config(sshd, "ForwardAgent yes")
    for variables in ({}, {"SSH_AUTH_SOCK": str(tmp_path / "gone")}):
        with links(sshd, variables) as (_, lending):
            assert lending is None


def test_ssh_agent_is_not_lent_without_an_ssh_command(
    sshd: LoopbackSshd, agent: dict[str, str]
) -> None:
    add_config(sshd, "ForwardAgent yes")
    with links(sshd, {**agent, "PATH": "/nowhere"}) as (_, lending):
        assert lending is None


def test_ssh_agent_is_not_lent_to_a_server_that_does_not_allow_it(
    tmp_path: Path, agent: dict[str, str]
) -> None:
    with LoopbackSshd(tmp_path, extra_config=["AllowAgentForwarding no"]) as sshd:
        add_config(sshd, "ForwardAgent yes")
        with links(sshd, agent) as (_, lending):
            assert lending is not None
            assert said(lending, LIST) == NONE


def test_ssh_agent_is_not_forwarded_to_jump_hosts(tmp_path: Path, agent: dict[str, str]) -> None:
    debug = ["LogLevel DEBUG"]
    with (
        LoopbackSshd(tmp_path, extra_config=debug) as sshd,
        LoopbackSshd(tmp_path, name="inner", home=sshd.home, extra_config=debug) as inner,
    ):
        config = sshd.home / ".ssh/config"
        config.write_text(f"{config.read_text()}Host *\n  ForwardAgent yes\n")
        with links(inner, agent, Address("inner", "inner", jump=sshd.name)) as (_, lending):
            assert lending is not None
            assert said(lending, LIST) == LENT
        assert ASKED.search(inner.log)
        assert not ASKED.search(sshd.log)


def test_ssh_agent_is_lent_beside_the_users_own_master(
    sshd: LoopbackSshd, agent: dict[str, str], tmp_path: Path
) -> None:
    """By a connection beside it: what the user runs there is not told of the agent."""
    add_config(sshd, "ForwardAgent yes")
    environ = {**sshd.environ, **agent}
    with (
        UsersMaster(sshd, tmp_path / "master"),
        contextlib.closing(
            open_route(ResolvedRoute.find(sshd.address, environ), Timeouts())
        ) as link,
        lent_by(link) as lending,
    ):
        assert lending is not None
        assert said(lending, LIST) == LENT
        assert said(link, LIST) == NONE


def test_a_key_for_certain_destinations_goes_no_further(sshd: LoopbackSshd, tmp_path: Path) -> None:
    """The agent is told what it is forwarded to; otherwise it would take this for a use here."""
    add_config(sshd, "ForwardAgent yes", f"HostKeyAlias {sshd.name}", "IdentitiesOnly yes")
    add_config(sshd, f"IdentityFile {sshd.client_key}")
    kind, blob = Path(f"{sshd.host_keys[0]}.pub").read_text().split()[:2]
    sshd.known_hosts.write_text(f"{sshd.name} {kind} {blob}\n")
    with agents.agent(tmp_path / "agent") as agent:
        subprocess.run(
            ["ssh-add", "-q", "-H", sshd.known_hosts, "-h", sshd.name, make_key(tmp_path / "key")],
            env={**sshd.environ, **agent}, check=True, capture_output=True,
        )  # fmt: skip
        with links(sshd, agent) as (_, lending):
            assert lending is not None
            assert said(lending, LIST) == "[agent]\n0\n"
