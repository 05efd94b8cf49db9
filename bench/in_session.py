"""Push several times over one connection, and tell how long each push took, as JSON.

    python in_session.py ENVIRONMENT SERVER

What a service does that has connected once. Opening the link, starting the agent and
importing are not in the figures; looking at both ends is.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from typing import Any

from envsync.cli.invocation import Invocation
from envsync.cli.push_order import PushOptions, PushOrder, make_order
from envsync.push.cycle import Push
from envsync.push.ends import LocalEnd, RemoteEnd
from envsync.push.source_end import SourceEnd
from envsync.push.target_end import TargetEnd
from envsync.ssh.session import Link

_PUSHES = 3


def main() -> None:
    options = PushOptions(sys.argv[1], (sys.argv[2],))
    order = make_order(Invocation(os.environ).site(), options)
    open_link = order.destinations[0].open_link
    assert open_link is not None
    with contextlib.closing(open_link()) as link:
        print(json.dumps([_pushed(order, link) for _ in range(_PUSHES)]))


def _pushed(order: PushOrder, link: Link) -> dict[str, Any]:
    settings, [destination] = order.settings, order.destinations
    end = RemoteEnd(link, destination.prefix)
    name = settings.name_there
    target = TargetEnd(end, destination.prefix, name, settings.local, settings.who)

    def reopen() -> contextlib.closing[TargetEnd]:
        raise AssertionError("nothing is published here")

    with contextlib.closing(target):
        started = time.perf_counter()
        here = LocalEnd(order.source.server)
        source = SourceEnd(here, settings.source_prefix, settings.environment, settings.local)
        report = Push(settings, source, target, link, reopen).run()
        seconds = time.perf_counter() - started
        source.close()
    return {"seconds": seconds, "outcome": report.outcome, "steps": report.step_seconds}


if __name__ == "__main__":
    main()
