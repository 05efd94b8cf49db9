"""Few handshakes at once, and patience with a server that drops some."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from envsync.ssh.handshakes import Dropped, HandshakeLimiter


class Attempts:
    """An attempt that fails `failures` times."""

    def __init__(self, failures: int, error: Exception | None = None) -> None:
        self.failures = failures
        self.error = error or Dropped(EOFError("dropped"))
        self.count = 0

    def __call__(self) -> str:
        self.count += 1
        if self.count <= self.failures:
            raise self.error
        return "in"


def test_delays_double_and_vary() -> None:
    slept: list[float] = []
    numbers = iter([0.0, 1.0, 0.5])
    limiter = HandshakeLimiter(
        first_delay_seconds=1.0, sleep=slept.append, jitter=lambda: next(numbers)
    )
    assert limiter.call("host", 22, Attempts(3)) == "in"
    assert slept == [0.5, 2.0, 3.0]


def test_limiter_gives_up_after_its_attempts() -> None:
    slept: list[float] = []
    attempts = Attempts(99)
    with pytest.raises(EOFError, match="dropped"):
        HandshakeLimiter(attempts=4, sleep=slept.append).call("host", 22, attempts)
    assert (attempts.count, len(slept)) == (4, 3)


def test_other_failures_are_final() -> None:
    attempts = Attempts(1, ValueError("refused"))
    with pytest.raises(ValueError, match="refused"):
        HandshakeLimiter(sleep=lambda _: None).call("host", 22, attempts)
    assert attempts.count == 1


def test_no_more_than_allowed_at_once_and_hosts_apart() -> None:
    limiter = HandshakeLimiter(at_once=2)
    lock = threading.Lock()
    now = {"a": 0, "b": 0}
    most = {"a": 0, "b": 0}
    both = threading.Barrier(4, timeout=10)

    def visit(host: str, meet: bool) -> None:
        def attempt() -> None:
            with lock:
                now[host] += 1
                most[host] = max(most[host], now[host])
            if meet:
                # Two for each host are inside at once, or this never ends.
                both.wait()
            with lock:
                now[host] -= 1

        limiter.call(host, 22, attempt)

    with ThreadPoolExecutor(20) as pool:
        first = [pool.submit(visit, host, True) for host in "aabb"]
        for future in first:
            future.result()
        rest = [pool.submit(visit, host, False) for host in "ab" * 30]
        for future in rest:
            future.result()
    assert most == {"a": 2, "b": 2}


def test_waiting_attempt_holds_no_slot() -> None:
    """Whoever waits for another try lets the others go first."""
    limiter: HandshakeLimiter
    other: list[str] = []

    def sleep(_: float) -> None:
        other.append(limiter.call("host", 22, lambda: "other"))

    limiter = HandshakeLimiter(at_once=1, sleep=sleep)
    assert limiter.call("host", 22, Attempts(1)) == "in"
    assert other == ["other"]
