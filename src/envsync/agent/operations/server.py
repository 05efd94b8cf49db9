"""Operations about a server as a whole."""

from __future__ import annotations

import os
import sys
import time
from typing import Tuple

from envsync.agent.operations.service import Answer, Request, Service
from envsync.agent.server.facts import platform_facts, who
from envsync.agent.server.home import content_directory
from envsync.agent.wire import codec
from envsync.agent.wire.messages import ListFacts, ServerFacts
from envsync.agent.wire.server_requests import AskEnvironments


def _hello(service: Service, request: Request) -> Answer:
    # The codecs come with the references: they are needed before sending, not before looking.
    return Answer(_server_facts(codecs=()))


def _server_facts(codecs: Tuple[str, ...]) -> ServerFacts:
    return ServerFacts(who(), codecs, platform_facts(), time.time(), sys.executable)


def _health(service: Service, request: Request) -> Answer:
    from envsync.agent.target.health import health

    asked, cache = request.read(AskEnvironments), content_directory(os.environ)
    return Answer(health(*asked, cache, _server_facts(codec.decodable())))


def _list(service: Service, request: Request) -> Answer:
    from envsync.agent.target.catalogue import environments

    found = environments(*request.read(AskEnvironments), content_directory(os.environ))
    return Answer(ListFacts(tuple(found), time.time()))


OPERATIONS = {
    "hello": _hello,
    "health": _health,
    "list": _list,
}
