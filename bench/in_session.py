"""Pushes several times, each over an open connection, and prints how long each took as JSON.

    python in_session.py ENVIRONMENT SERVER

This is what a standby worker of the daemon does, which has connected while the source settled.
The figures do not include opening the link, starting the agent and importing, but they include
inspecting both ends anew.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from queue import SimpleQueue
from typing import Any

from envsync.agent.operations.fewer_collections import collect_rarely
from envsync.cli.invocation.invocation import Invocation
from envsync.cli.pushing.request import PushOptions, PushRequest, resolve_push
from envsync.push.fan_out.fan_out import FanOut

_PUSHES = 3
_READY_SECONDS = 2.0
"""It is connected by then, and is told to start, and that the source has changed since."""


def main() -> None:
    collect_rarely()
    options = PushOptions(sys.argv[1], (sys.argv[2],))
    request = resolve_push(Invocation(os.environ).site(), options)
    print(json.dumps([_pushed(request) for _ in range(_PUSHES)]))


def _pushed(request: PushRequest) -> dict[str, Any]:
    start_signal = SimpleQueue[bool]()
    fan_out = FanOut(request.settings, request.source, request.destinations)
    word = threading.Timer(_READY_SECONDS, lambda: start_signal.put(True))
    word.start()
    [report] = fan_out.run(start_signal.get)
    word.join()
    if report.error is not None:
        raise report.error
    return {"seconds": report.seconds, "outcome": report.outcome, "steps": report.step_seconds}


if __name__ == "__main__":
    main()
