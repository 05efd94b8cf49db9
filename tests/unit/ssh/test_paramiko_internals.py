"""The parts of paramiko that are no part of its documented interface, in this release."""

from __future__ import annotations

import socket
import struct
from typing import Any

from paramiko import Message, Transport
from paramiko.agent import AgentSSH
from paramiko.auth_handler import AuthHandler


def test_agent_sends_a_message_and_returns_the_kind_and_the_rest_of_the_answer() -> None:
    ours, agents = socket.socketpair()
    with ours, agents:
        agent: Any = AgentSSH()
        agent._conn = ours
        agents.sendall(struct.pack(">IBI", 5, 12, 3))
        kind, answer = agent._send_message(b"\x0b")
        assert agents.recv(64) == b"\x00\x00\x00\x01\x0b"
        assert (kind, answer.get_int()) == (12, 3)


def test_agent_lists_the_keys_that_it_was_given_until_it_is_closed() -> None:
    ours, agents = socket.socketpair()
    with ours, agents:
        agent: Any = AgentSSH()
        agent._conn, agent._keys = ours, ("key",)
        assert agent.get_keys() == ("key",)
        agent._close()
        assert agents.recv(1) == b""
        assert agent.get_keys() == ()


def test_transport_keeps_the_banner_of_the_last_authentication() -> None:
    ours, servers = socket.socketpair()
    with ours, servers:
        transport = Transport(ours)
        handler: Any = AuthHandler(transport)
        assert transport.auth_handler is None
        assert handler.banner is None
        banner = Message()
        banner.add_string("no jobs here")
        banner.rewind()
        handler._parse_userauth_banner(banner)
        assert handler.banner == b"no jobs here"
