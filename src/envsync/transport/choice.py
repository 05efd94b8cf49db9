"""Chooses the transport of a push."""

from __future__ import annotations

from dataclasses import dataclass

from envsync.errors import TransferFailed, UsageError
from envsync.transport.direct import WORTHWHILE_BYTES, DirectTransport
from envsync.transport.job import Job, Transport
from envsync.transport.names import AUTO, NAMED
from envsync.transport.rsync import RsyncTransport
from envsync.transport.scp import ScpTransport
from envsync.transport.stream import StreamTransport

_WHY_AUTO = "it needs nothing there but Python, and no second connection"


@dataclass(frozen=True, slots=True)
class Choice:
    """A transport, and one clause that says why it was taken.

    `agent_forwarded`: the user's agent was forwarded to the source, for this or in vain.
    """

    transport: Transport
    reason: str
    agent_forwarded: bool = False


def transports() -> tuple[Transport, ...]:
    """Those in `NAMED`, in that order (see docs/decisions/0005-transports.md)."""
    return (StreamTransport(), RsyncTransport(), ScpTransport())


def choose(name: str, job: Job) -> Choice:
    """The transport of that name, or for `auto` the first that can serve the job.

    Nothing is sent yet, but a named one may ask the agent what is there. Raises
    `UsageError` for an unknown name, `TransferFailed` where the named one cannot.
    """
    if name == AUTO:
        return _automatic(job)
    available = transports()
    chosen = next((transport for transport in available if transport.name == name), None)
    if chosen is None:
        names = ", ".join((AUTO, *NAMED))
        raise UsageError(f"there is no transport {name!r}", hint=f"one of: {names}")
    refusal = chosen.refusal(job)
    if refusal is not None:
        raise TransferFailed(
            f"--transport {name} cannot be used: {refusal}", hint="leave --transport out"
        )
    return Choice(chosen, "asked for")


def _automatic(job: Job) -> Choice:
    """Stream, which refuses nothing; but between two other servers straight, where that can be."""
    if job.direct is None or job.link is None:
        return Choice(StreamTransport(), _WHY_AUTO)
    if job.size_bytes < WORTHWHILE_BYTES:
        return Choice(StreamTransport(), "through this machine: there is little to send")
    direct = DirectTransport()
    refusal = direct.refusal(job)
    if refusal is None:
        return Choice(direct, direct.reason(job), job.direct.agent_forwarded)
    reason = f"through this machine: {refusal}"
    return Choice(StreamTransport(), reason, job.direct.agent_forwarded)
