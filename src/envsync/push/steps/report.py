"""The report of a push, and its progress, for people and programs alike."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from envsync.agent.wire.checked_json import to_json
from envsync.agent.wire.messages import PlanFacts, ProcessUse, RecordFacts
from envsync.errors import EnvsyncError
from envsync.tree.manifest import Totals

PUSHED, IN_STEP, ADOPTED, PLANNED, FAILED = "pushed", "in-step", "adopted", "planned", "failed"

WAITING = "waiting"
"""The step in which a push waits for processes (`in_use: wait`)."""

THROUGH_HERE, DIRECTLY = "through this machine", "direct"
DIRECTLY_WITH_AGENT = "direct, with your forwarded agent"
"""The routes of contents that come from another server."""


@dataclass(frozen=True, slots=True)
class PushReport:
    """The outcome on one server.

    `outcome` is one of `pushed`, `in-step` (nothing to do), `adopted` (the content was there,
    unrecorded), `planned` (a dry run) or `failed`, which has `error`. `source_revision` is as in
    `SourceState`, which the record has, or would have. Bytes are those of contents,
    except for `wire_bytes` and, in a dry run, `predicted_wire_bytes`. `compiled_left_out` counts
    the bytecode of modules that are rewritten for another path, which is not sent. `route` is how
    contents travelled if the source is on another server. `seconds` covers the whole of this
    server's push. If the environment was rebuilt on the target, `tool` built it, and `changes` are
    what could not be had. `wants_spare`, which is for the daemon alone, says that nothing is left
    there for the next push to build on.
    """

    server: str
    environment: str
    outcome: str
    revision: str = ""
    source_revision: str = ""
    totals: Totals | None = None
    plan: PlanFacts | None = None
    compiled_left_out: int = 0
    record: RecordFacts | None = None
    method: str = ""
    method_reason: str = ""
    tool: str = ""
    changes: tuple[str, ...] = ()
    connection: str = ""
    connection_reason: str = ""
    transport: str = ""
    transport_reason: str = ""
    route: str = ""
    agent_forwarded: bool = False
    share: str = ""
    wire_bytes: int | None = None
    predicted_wire_bytes: int | None = None
    seconds: float = 0.0
    step_seconds: dict[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    in_use: tuple[ProcessUse, ...] = ()
    overwritten: str = ""
    put_back: str = ""
    recovered: str | None = None
    wants_spare: bool = False
    error: EnvsyncError | None = None

    def to_json(self) -> dict[str, Any]:
        document = {
            name: to_json(getattr(self, name))
            for name in self.__dataclass_fields__
            if name not in ("wants_spare", "error")
        }
        document["error"] = None if self.error is None else self.error.to_json()
        return document


@dataclass(frozen=True, slots=True)
class ServerProgress:
    """How far the work on one server is: the step, and its bytes and files where known.

    `waits_for` are the processes that it has begun to wait for, for at most `wait_seconds`.
    `tool` is what has begun to run there, in its `attempt`-th try, after `step_seconds`.
    """

    server: str
    step: str
    done_bytes: int = 0
    total_bytes: int = 0
    files: int = 0
    waits_for: tuple[ProcessUse, ...] = ()
    wait_seconds: float = 0.0
    tool: str = ""
    attempt: int = 0
    step_seconds: float = 0.0
