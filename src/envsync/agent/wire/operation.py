"""An operation of an end as one value: its name, and the types of its request and its answer."""

from __future__ import annotations

from typing import Any, Generic, Tuple, Type, TypeVar

from envsync.agent.wire.checked_json import from_json, to_json

RequestT = TypeVar("RequestT")
AnswerT = TypeVar("AnswerT")

_PAYLOAD = "payload"


class Operation(Generic[RequestT, AnswerT]):
    """What an end can be asked, such as `Operation[InspectTarget, TargetState]("target.inspect")`.

    The name's part before the dot is the module of `agent.operations` that carries it out. Requests
    and answers are of any type that `checked_json` knows. Their bytes are not part of the JSON, but
    go beside it: those of the field `payload`, or of a request or an answer that is only `bytes`.
    """

    __orig_class__: Any
    """What it was made with: `typing` sets it, and so the types are stated only once."""

    def __init__(self, name: str) -> None:
        self.name = name

    def decode_request(self, document: Any, payload: bytes) -> RequestT:
        """Return the request that a message contains. Raises `AgentFailed` if it does not fit."""
        request: RequestT = _decode(self.__orig_class__.__args__[0], document, payload, self.name)
        return request

    def decode_answer(self, document: Any, payload: bytes) -> AnswerT:
        """Return the answer that a message contains. Raises `AgentFailed` if it does not fit."""
        answer: AnswerT = _decode(self.__orig_class__.__args__[1], document, payload, self.name)
        return answer


def encode(value: Any) -> Tuple[Any, bytes]:
    """Return a request or an answer as JSON, and the bytes that go beside it."""
    if isinstance(value, bytes):
        return None, value
    document = to_json(value)
    payload = document.pop(_PAYLOAD, b"") if isinstance(document, dict) else b""
    return document, payload


def _decode(kind: Type[Any], document: Any, payload: bytes, name: str) -> Any:
    if kind is bytes:
        return payload
    if isinstance(document, dict) and _PAYLOAD in getattr(kind, "_fields", ()):
        document = {**document, _PAYLOAD: payload}
    return from_json(kind, document, name)
