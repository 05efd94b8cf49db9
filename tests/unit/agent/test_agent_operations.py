"""Operations as values: each has a handler, and its request and answer survive the wire."""

from __future__ import annotations

import json
from typing import Any, NamedTuple, Optional

import pytest

from envsync.agent.operations import service
from envsync.agent.operations.service import Service
from envsync.agent.wire import (
    build_operations,
    rebuild_operations,
    server_operations,
    source_operations,
    target_operations,
    transfer_operations,
)
from envsync.agent.wire.operation import Operation, encode
from envsync.errors import AgentFailed

OPERATIONS: list[Operation[Any, Any]] = [
    value
    for module in (
        build_operations,
        rebuild_operations,
        server_operations,
        source_operations,
        target_operations,
        transfer_operations,
    )
    for value in vars(module).values()
    if isinstance(value, Operation)
]


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_operation_has_the_only_handler_of_its_name(operation: Operation[Any, Any]) -> None:
    assert service._operation(operation.name)[0] is operation


@pytest.mark.parametrize("name", ["", "hello", "no-such.thing", "service.ask", "source.none"])
def test_unknown_operation_is_the_agents_failure(name: str) -> None:
    with pytest.raises(AgentFailed, match="unknown operation"):
        Service().answer(name, None, b"")


class Sent(NamedTuple):
    number: int
    payload: bytes


@pytest.mark.parametrize(
    ("operation", "answer"),
    [
        (Operation[None, None]("x.y"), None),
        (Operation[None, bool]("x.y"), True),
        (Operation[None, str]("x.y"), "text"),
        (Operation[None, bytes]("x.y"), b"\0bytes"),
        (Operation[None, tuple[str, ...]]("x.y"), ("a", "b")),
        (Operation[None, Optional[Sent]]("x.y"), None),  # noqa: UP045 - as on Python 3.8
        (Operation[None, Sent]("x.y"), Sent(1, b"\0bytes")),
    ],
)
def test_answer_arrives_as_it_was_sent(operation: Operation[None, Any], answer: Any) -> None:
    document, payload = encode(answer)
    assert operation.decode_answer(json.loads(json.dumps(document)), payload) == answer


@pytest.mark.parametrize("document", [None, [], 1, {"number": "1"}, {"payload": "x"}])
def test_answer_of_another_type_is_refused_by_the_operations_name(document: Any) -> None:
    with pytest.raises(AgentFailed, match=r"x\.y"):
        Operation[None, Sent]("x.y").decode_answer(document, b"")
