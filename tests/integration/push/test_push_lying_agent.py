"""A server that lies: the push to it ends as one of our errors, and harms nothing here."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable
from importlib.util import MAGIC_NUMBER
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envsync.agent.wire.frames import CONTROL, DATA, DATA_END, HEARTBEAT, PAYLOAD
from envsync.agent.wire.target_operations import OpenTarget, Requester
from envsync.errors import AgentFailed, ConnectionLost, EnvsyncError
from envsync.push.ends import agent_start, end
from envsync.push.ends.end import RemoteEnd
from envsync.push.ends.target_end import TargetEnd
from envsync.push.request.places import Destination
from envsync.push.steps.report import PUSHED, PushReport
from envsync.ssh.session import Link
from envsync.tree import manifest as manifests
from tests.integration.push.lying import (
    DEEP,
    DROPPED,
    ODD,
    Answer,
    FakeLink,
    LyingAgent,
    Scene,
    SocketSession,
    another_value,
    answer,
    begin,
    failed,
    frame,
    message,
    opened,
    require_calm,
    scene,
    scenery,
    take_token,
)

__all__ = ["scene"]

OPERATIONS = (
    "target.open",
    "target.inspect",
    "target.references",
    "build.stage",
    "transfer.receive",
    "build.complete",
    "target.using",
    "build.publish",
)
SNAPSHOT = ("conda-meta", "conda-meta/history", "bin", "bin/tool", "lib", "lib/a.py")


def push(scene: Scene, agent: LyingAgent) -> PushReport | EnvsyncError:
    """How a push to that agent ends: nothing else than these two."""
    try:
        return scene.push(agent.serve, scene.target())
    except EnvsyncError as error:
        error.server = error.server or "server2"  # as the fan-out does
        return error


def require_unharmed(scene: Scene) -> None:
    top = scene.source_prefix / "envs/myenv"
    found = {path.relative_to(top).as_posix() for path in top.rglob("*")}
    assert found == set(SNAPSHOT)
    assert not (scene.source_prefix / "envs/.envsync").exists()


def test_the_truth_is_pushed(scene: Scene) -> None:
    """The scene itself: without a lie, every operation is asked for and the push succeeds."""
    agent = LyingAgent(lambda *_: None)
    ended = push(scene, agent)
    assert isinstance(ended, PushReport)
    assert ended.outcome == PUSHED
    assert tuple(dict.fromkeys(agent.asked)) == OPERATIONS


# --- answers ----------------------------------------------------------------------------


@settings(max_examples=15)
@given(st.sampled_from(OPERATIONS), st.integers(0, 1000), st.sampled_from([*ODD, DROPPED]))
def test_any_field_may_be_anything(scene: Scene, operation: str, which: int, value: Any) -> None:
    """One value of one answer is another one: the push succeeds or fails by name."""

    require_calm(push(scene, LyingAgent(another_value(operation, which, value))))
    require_unharmed(scene)


def lie_at(operation: str, said: Callable[[int, Answer], bytes]) -> LyingAgent:
    """An agent that is honest but where it is asked for this."""

    def lie(asked: str, number: int, truth: Answer) -> bytes | None:
        return said(number, truth) if asked == operation else None

    return LyingAgent(lie)


def error(**fields: object) -> dict[str, object]:
    return {"code": "no-space", "message": "full", "hint": "", "details": [], **fields}


MEGABYTE = "x" * 1_000_000
LIES: dict[str, tuple[str, Callable[[int, Answer], bytes], str]] = {
    "no answer": ("target.open", lambda n, a: message({"number": n}), "no answer"),
    "an answer that is none": ("target.open", lambda n, a: answer(n, ["x"]), "message"),
    "without a number": ("target.open", lambda n, a: message({"answer": a.document}), "no answer"),
    "an answer of before": ("target.inspect", lambda n, a: answer(n - 1, a.document), "no answer"),
    "another operation's": ("target.inspect", lambda n, a: answer(n, {"processes": []}), "message"),
    "twice": ("target.open", lambda n, a: answer(n, a.document) * 2, "no answer"),
    "an error that is none": ("target.open", lambda n, a: failed(n, 7), ""),
    "an error of nothing": ("target.open", lambda n, a: failed(n, {}), ""),
    "an error with escapes": (
        "target.open",
        lambda n, a: failed(n, error(message="\x1b[2J", details=["\r", "\u2028\x9b1m"])),
        "",
    ),
    "an error with markup": (
        "target.open", lambda n, a: failed(n, error(message="[red]x[/red] [/]")), r"\[red\]",
    ),
    "an error of megabytes": (
        "target.open", lambda n, a: large(n, error(details=[MEGABYTE] * 3)), "",
    ),
    "an error for another server": (
        "target.open", lambda n, a: failed(n, error(server="server9")), "full",
    ),
    "an error of odd parts": (
        "target.open",
        lambda n, a: failed(n, error(message=DEEP, hint=1, details=[None, DEEP, {}])),
        "",
    ),
    "text that is no text": ("target.open", lambda n, a: failed(n, error(message="\ud800x")), "x"),
    "progress that is none": (
        "target.open", lambda n, a: message({"progress": 7}) + answer(n, a.document), "no answer",
    ),
    "no JSON": ("target.open", lambda n, a: frame(CONTROL, b"{"), "protocol"),
    "an unknown frame": ("target.open", lambda n, a: frame(b"X"), "protocol"),
    "a frame too large": ("target.open", lambda n, a: b"C\xff\xff\xff\xff", "protocol"),
    "a payload nobody announced": ("target.open", lambda n, a: frame(PAYLOAD, b"x"), "protocol"),
    "a payload too large": (
        "target.open", lambda n, a: message({"payload_bytes": 1 << 40}), "payload of invalid size",
    ),
    "a file outside": ("build.stage", lambda n, a: asks(n, a, b"../secret"), "manifest"),
    "an absolute file": ("build.stage", lambda n, a: asks(n, a, b"/etc/passwd"), "manifest"),
    "a directory": ("build.stage", lambda n, a: asks(n, a, b"bin"), "manifest"),
    "no name": ("build.stage", lambda n, a: asks(n, a, b"\0"), "not in the manifest"),
    "the same file twice": (
        "build.stage", lambda n, a: asks(n, a, b"bin/tool\0bin/tool"), "the same file twice",
    ),
    "the same file for ever": (
        "build.stage", lambda n, a: asks(n, a, b"\0".join([b"bin/tool"] * 1_000_000)), "twice",
    ),
    "more files than there are": (
        "build.stage", lambda n, a: asks(n, a, bytes(manifests.ENTRIES_MAX)), "too many files",
    ),
    "a place with an option": (
        "build.stage", lambda n, a: answer(n, {**a.document, "tree": "-oProxyCommand=x"}), "place",
    ),
    "a token that is a command": (
        "build.stage", lambda n, a: answer(n, {**a.document, "token": "$(reboot)"}), "place",
    ),
    "references that are none": (
        "target.references", lambda n, a: answer(n, a.document, b"x" * 13), "references",
    ),
    "a codec that is no name": (
        "target.references", lambda n, a: answer(n, {**a.document, "codecs": [7]}, a.payload),
        "codecs",
    ),
    "too many references": (
        "target.references",
        lambda n, a: answer(n, a.document, bytes(12 * manifests.ENTRIES_MAX + 12)),
        "references",
    ),
    "another record": (
        "build.publish", lambda n, a: answer(n, another_record(a.document)), "record",
    ),
    "stray data": (
        "target.open",
        lambda n, a: frame(DATA, b"x") + frame(DATA_END) + failed(n, error()),
        "full",
    ),
}  # fmt: skip


def another_record(document: dict[str, Any]) -> dict[str, Any]:
    return {**document, "record": {**document["record"], "source_revision": "x"}}


def large(number: int, error: object) -> bytes:
    """An error in a document that is too large for a control frame."""
    data = json.dumps({"error": error, "number": number}).encode()
    return message({"document_bytes": len(data), "payload_bytes": len(data)}, data)


def asks(number: int, truth: Answer, paths: bytes) -> bytes:
    return answer(number, truth.document, paths)


@pytest.mark.parametrize("case", LIES)
def test_a_lie_is_the_servers_failure(case: str, scene: Scene) -> None:
    operation, said, told = LIES[case]
    ended = push(scene, lie_at(operation, said))
    assert isinstance(ended, EnvsyncError)
    assert re.search(told, ended.message)
    require_calm(ended)
    require_unharmed(scene)


# --- before the first frame -------------------------------------------------------------


def say(*parts: bytes) -> Callable[[socket.socket], None]:
    """A server that says this where the agent's token should come, and goes."""

    def serve(far: socket.socket) -> None:
        take_token(far)
        for part in parts:
            far.sendall(part)

    return serve


GUESS = b"\nenvsync-" + b"0" * 32 + b"\n"


@pytest.mark.parametrize(
    ("said", "told"),
    [
        pytest.param([], "did not start", id="nothing"),
        pytest.param([b"Welcome\n"], "did not start", id="a greeting"),
        pytest.param([GUESS, b"cafe0000\n"], "did not start", id="a token that was guessed"),
        pytest.param([b"\nenvsync-"] * 9000, "more than 64 KiB", id="tokens that begin"),
        pytest.param([b"\n" * 70_000], "more than 64 KiB", id="newlines"),
        pytest.param([bytes(1 << 20)] * 64, "more than 64 KiB", id="noise without end"),
    ],
)
def test_damaged_start_of_an_agent_is_refused(said: list[bytes], told: str, scene: Scene) -> None:
    with pytest.raises(EnvsyncError, match=told) as caught:
        scene.push(say(*said), scene.target())
    assert caught.value.server == "server2"


def test_output_between_the_agents_words_is_refused(scene: Scene) -> None:
    """As of a program that a login file started, and that goes on."""

    def serve(far: socket.socket) -> None:
        far.sendall(b"\n" + take_token(far) + b"\n" + MAGIC_NUMBER.hex().encode() + b"\nmore")

    with pytest.raises(AgentFailed, match="something else prints"):
        scene.push(serve, scene.target())


def test_slow_noise_is_no_reason_to_wait_for_ever(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A byte now and then keeps a session alive, and it would take days until 64 KiB came."""
    monkeypatch.setattr(agent_start, "START_SECONDS", 0.3)

    def drip(far: socket.socket) -> None:
        take_token(far)
        while True:
            far.sendall(b".")
            time.sleep(0.01)

    with pytest.raises(AgentFailed, match="did not start within"):
        scene.push(drip, scene.target())


class SilentLink(FakeLink):
    """A link on which reads give up soon, and whose server may grant one session only."""

    grants_another = True

    def run(self, command: str) -> SocketSession:
        if self.threads and not self.grants_another:
            raise ConnectionLost("gone", server=self.server)
        session = super().run(command)
        session.set_silence(0.2)
        return session


@pytest.mark.parametrize(
    ("grants_another", "error"), [(True, AgentFailed), (False, ConnectionLost)]
)
def test_login_files_that_hang_in_silence_are_no_outage(
    grants_another: bool, error: type[EnvsyncError], scene: Scene
) -> None:
    """A server that is cut off is as silent, but grants no further session."""
    asked_to_end = threading.Event()

    def hang(far: socket.socket) -> None:
        asked_to_end.wait(30)

    link = SilentLink(hang)
    link.grants_another = grants_another
    with pytest.raises(error) as caught:
        RemoteEnd(cast("Link", link), str(scene.target()))
    asked_to_end.set()
    link.close()
    assert caught.value.server == "server2"
    assert ("did not start within" in str(caught.value)) is grants_another


def test_agent_that_never_answers_is_given_up_and_others_are_pushed_to(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is connected: its heart beats."""
    monkeypatch.setattr(end, "AGENT_SILENCE_SECONDS", 0.3)
    beats: list[bytes] = []

    def serve(far: socket.socket) -> None:
        frames = begin(far)
        while True:
            beats.append(frames().kind)
            far.sendall(frame(HEARTBEAT))

    link, mute, other = FakeLink(serve), scene.target(), scene.target()
    destinations = [
        Destination("server2", str(mute), lambda: cast("Link", link)),
        Destination("server3", str(other), None),
    ]
    silent, pushed = scene.push_to(destinations)
    assert isinstance(silent.error, AgentFailed)
    assert silent.error.message.startswith("it is connected, but sent nothing for ")
    assert (silent.error.exit_code, silent.error.server) == (7, "server2")
    assert beats
    assert (pushed.server, pushed.outcome) == ("server3", PUSHED)
    assert (other / "envs/myenv/bin/tool").exists()


@pytest.mark.parametrize("cut", [1, 4, 5, 6, 12])
def test_a_frame_that_is_cut(cut: int, scene: Scene) -> None:
    def serve(far: socket.socket) -> None:
        begin(far)
        far.sendall(answer(1, {})[:cut])

    with pytest.raises((AgentFailed, ConnectionLost)):
        scene.push(serve, scene.target())


def test_a_flood_costs_no_memory(scene: Scene) -> None:
    """Progress, data and beats without end, and nobody asked: what is not read is not kept."""
    flood = message({"progress": {"hash_bytes": 1}}) + frame(HEARTBEAT)
    flood += frame(DATA, bytes(1 << 16)) * 4

    def serve(far: socket.socket) -> None:
        begin(far)
        for _ in range(400):
            far.sendall(flood)

    tracemalloc.start()
    try:
        with pytest.raises(ConnectionLost):
            scene.push(serve, scene.target())
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("document", [{}, "x", 1, None])
def test_answer_to_begin_without_a_clear_outcome_is_refused(scene: Scene, document: object) -> None:
    agent = lie_at("build.begin_alike", lambda n, _: answer(n, document))
    link, prefix = FakeLink(agent.serve), scene.target()
    with contextlib.closing(link), opened(cast("Link", link), prefix) as end:
        target = TargetEnd(end, OpenTarget(str(prefix), "myenv", (), Requester("alice@server1")))
        target.inspect(lock=True)
        target.known_there(frozenset())
        with pytest.raises(AgentFailed):
            target.begin_alike()


@pytest.mark.parametrize(
    ("field", "is_asked"),
    [("", True), ("transfer.begin", True), ("has_begun", False), ("has_most", False)],
)
def test_lie_about_what_was_sent_ahead_does_no_harm(field: str, is_asked: bool) -> None:
    """A source that nobody has hashed yet, and a target that has nothing, or says otherwise."""
    may_hash = threading.Event()
    with scenery() as scene:

        def lie(asked: str, number: int, truth: Answer) -> bytes | None:
            if asked in ("transfer.begin", "build.stage") or field in ("has_begun", "has_most"):
                may_hash.set()
            if asked == field:
                return answer(number, None)
            if asked != "target.references" or field not in truth.document:
                return None
            document = {**truth.document, field: not truth.document[field]}
            return answer(number, document, truth.payload)

        agent = LyingAgent(lie)
        ended = scene.push_ahead(agent.serve, scene.target(), may_hash)
        assert ended.outcome == PUSHED
        assert ("transfer.begin" in agent.asked) is is_asked
        assert ("transfer.receive" in agent.asked) is not is_asked
