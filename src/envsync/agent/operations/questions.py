"""Operations about a server as a whole."""

from __future__ import annotations

import os
import sys
import time
from typing import Callable, Dict, Tuple

from envsync.agent.operations.service import Answer, Request, Service
from envsync.agent.server.facts import platform_facts, who
from envsync.agent.server.home import cache_directory
from envsync.agent.wire import codec
from envsync.agent.wire.checked_json import to_json
from envsync.agent.wire.messages import ListFacts, ServerFacts


def _hello(service: Service, request: Request) -> Answer:
    # Its codecs are told by who is asked for references: before it sends, not before it looks.
    return Answer(to_json(_server_facts(codecs=())))


def _server_facts(codecs: Tuple[str, ...]) -> ServerFacts:
    return ServerFacts(who(), codecs, platform_facts(), time.time(), sys.executable)


def _health(service: Service, request: Request) -> Answer:
    from envsync.agent.target.health import health, trees_of_environments

    arguments = request.arguments
    local, local_of = arguments["local"], arguments["local_of"]
    trees_of = trees_of_environments(cache_directory(os.environ), local, local_of)
    return Answer(to_json(health(arguments["prefix"], _server_facts(codec.undone()), trees_of)))


def _list(service: Service, request: Request) -> Answer:
    from envsync.agent.target.catalogue import environments

    arguments = request.arguments
    local, local_of = arguments["local"], arguments["local_of"]
    found = environments(arguments["prefix"], local, local_of, cache_directory(os.environ))
    return Answer(to_json(ListFacts(tuple(found), time.time())))


OPERATIONS: Dict[str, Callable[[Service, Request], Answer]] = {
    "hello": _hello,
    "health": _health,
    "list": _list,
}
