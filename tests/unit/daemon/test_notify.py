"""What reaches systemd's socket."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from envsync.daemon.systemd.notify import STATUS_BYTES_MAX, Notifier


class Listener:
    """The datagram socket that systemd holds."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self.socket.settimeout(5)

    def received(self) -> list[str]:
        return self.socket.recv(65536).decode().split("\n")


@pytest.fixture(params=["path", "abstract"])
def listener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Listener]:
    path = f"@envsync-{os.getpid()}-{time.monotonic_ns()}"
    found = Listener(path if request.param == "abstract" else str(tmp_path / "notify"))
    yield found
    found.socket.close()


def test_each_call_is_one_datagram(listener: Listener) -> None:
    notifier = Notifier.from_environ({"NOTIFY_SOCKET": listener.address})
    notifier.ready("watching 3 environments")
    assert listener.received() == ["READY=1", "STATUS=watching 3 environments"]
    before = time.monotonic_ns() // 1000
    notifier.reloading()
    first, second = listener.received()
    assert first == "RELOADING=1"
    name, _, microseconds = second.partition("=")
    assert name == "MONOTONIC_USEC"
    assert before <= int(microseconds) <= time.monotonic_ns() // 1000
    notifier.ready()
    assert listener.received() == ["READY=1"]
    notifier.watchdog()
    assert listener.received() == ["WATCHDOG=1"]
    notifier.stopping()
    assert listener.received() == ["STOPPING=1"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("one\nREADY=1\n", "one READY=1"),
        ("\x1b[31mred\x07", r"\x1b[31mred\x07"),
        ("höchste Zeit", "höchste Zeit"),
        ("a\udcffb", r"a\xffb"),
        ("no https://alice:s3cret@server/", "no https://***@server/"),
        ("é" * STATUS_BYTES_MAX, "é" * (STATUS_BYTES_MAX // 2)),
    ],
)
def test_a_status_is_one_harmless_line(tmp_path: Path, text: str, shown: str) -> None:
    listener = Listener(str(tmp_path / "notify"))
    Notifier(listener.address).status(text)
    assert listener.received() == [f"STATUS={shown}"]
    listener.socket.close()


@pytest.mark.parametrize("address", ["", "@", "/", "relative", "/nowhere/notify", "/" + "x" * 200])
def test_without_a_socket_nothing_happens(address: str) -> None:
    notifier = Notifier.from_environ({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000000"})
    tell: list[Callable[[], None]] = [notifier.ready, notifier.reloading, notifier.watchdog]
    for message in (*tell, notifier.stopping):
        message()
    notifier.status("unheard")


def test_a_socket_that_nobody_reads_holds_nothing_up(tmp_path: Path) -> None:
    listener = Listener(str(tmp_path / "notify"))
    listener.socket.close()
    Notifier(listener.address).ready()


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_interval_is_ours_alone(
    environ: dict[str, str], seconds: float | None
) -> None:
    notifier = Notifier.from_environ({"NOTIFY_SOCKET": "@envsync-none", **environ})
    assert notifier.watchdog_interval_seconds == seconds


def test_no_watchdog_without_a_socket() -> None:
    assert Notifier.from_environ({"WATCHDOG_USEC": "30000000"}).watchdog_interval_seconds is None
