"""Chooses the transport of a push."""

from __future__ import annotations

from dataclasses import dataclass

from envsync.errors import TransferFailed
from envsync.transport.direct import WORTHWHILE_BYTES, DirectTransport
from envsync.transport.job import Job, Transport
from envsync.transport.names import AUTO
from envsync.transport.rsync import RsyncTransport
from envsync.transport.scp import ScpTransport
from envsync.transport.stream import StreamTransport

_WHY_AUTO = "it needs only Python there, and no second connection"


@dataclass(frozen=True, slots=True)
class Choice:
    """A transport, and a clause for people that says why it was chosen.

    `agent_forwarded` is true if the user's ssh agent was forwarded to the source, even in vain.
    """

    transport: Transport
    reason: str
    agent_forwarded: bool = False


def named(name: str, job: Job) -> Choice | None:
    """Return the transport of that name, for whatever the job comes to send; None for `auto`.

    Any other name is one of `NAMED`. To be asked before a tree is staged for the job: agents can be
    asked what is on their servers. Raises `TransferFailed` if that transport cannot serve.
    """
    if name == AUTO:
        return None
    available: tuple[Transport, ...] = (StreamTransport(), RsyncTransport(), ScpTransport())
    chosen = next(transport for transport in available if transport.name == name)
    refusal = chosen.refusal(job)
    if refusal is not None:
        raise TransferFailed(
            f"--transport {name} cannot be used: {refusal}", hint="omit --transport"
        )
    return Choice(chosen, "requested")


def automatic(job: Job) -> Choice:
    """Return stream, or, between two other servers, direct if it is possible and worthwhile.

    Nothing is sent yet, but agents can be asked what is on their servers, and to try a login.
    """
    if job.supply.relayed is None or job.target.link is None:
        return Choice(StreamTransport(), _WHY_AUTO)
    if job.supply.direct is None:
        return Choice(StreamTransport(), "through this machine: paths in it are changed on the way")
    if job.size_bytes < WORTHWHILE_BYTES:
        return Choice(StreamTransport(), "through this machine: there is little to send")
    direct = DirectTransport()
    refusal = direct.refusal(job)
    if refusal is None:
        return Choice(direct, direct.reason(job), job.supply.direct.agent_forwarded)
    reason = f"through this machine: {refusal}"
    return Choice(StreamTransport(), reason, job.supply.direct.agent_forwarded)
