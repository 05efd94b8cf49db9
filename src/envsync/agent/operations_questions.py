"""Operations about a server as a whole."""

from __future__ import annotations

import os
import sys
import time
from typing import Callable, Dict

from envsync.agent import codec
from envsync.agent.content_cache import cache_directory
from envsync.agent.facts import platform_facts, who
from envsync.agent.messages import to_json
from envsync.agent.service import Answer, Request, Service


def _hello(service: Service, request: Request) -> Answer:
    return Answer(
        {
            "who": who(),
            "codecs": list(codec.available()),
            "platform": to_json(platform_facts()),
            "time_seconds": time.time(),
            "python": sys.executable,
        }
    )


def _list(service: Service, request: Request) -> Answer:
    from envsync.agent.catalogue import environments

    arguments = request.arguments
    local, local_of = arguments["local"], arguments["local_of"]
    found = environments(arguments["prefix"], local, local_of, cache_directory(os.environ))
    return Answer({"environments": [to_json(environment) for environment in found]})


OPERATIONS: Dict[str, Callable[[Service, Request], Answer]] = {"hello": _hello, "list": _list}
