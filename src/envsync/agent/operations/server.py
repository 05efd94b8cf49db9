"""Operations about a server as a whole."""

from __future__ import annotations

import os
import sys
import time
from typing import Tuple

from envsync.agent.operations.service import Service, handles
from envsync.agent.server.accounts import who
from envsync.agent.server.machine import platform_facts
from envsync.agent.wire import codec
from envsync.agent.wire.server_operations import (
    HEALTH,
    HELLO,
    LIST,
    AskEnvironments,
    HealthFacts,
    ListFacts,
    ServerFacts,
)
from envsync.files.directories import content_directory


@handles(HELLO)
def _hello(_: Service, __: None) -> ServerFacts:
    # The codecs come with the references: they are needed before sending, not before looking.
    return _server_facts(codecs=())


def _server_facts(codecs: Tuple[str, ...]) -> ServerFacts:
    return ServerFacts(who(), codecs, platform_facts(), time.time(), sys.executable)


@handles(HEALTH)
def _health(_: Service, request: AskEnvironments) -> HealthFacts:
    from envsync.agent.target.health import health

    cache = content_directory(os.environ)
    server = _server_facts(codec.decodable())
    return health(request.prefix, request.local, request.local_of, cache, server)


@handles(LIST)
def _list(_: Service, request: AskEnvironments) -> ListFacts:
    from envsync.agent.target.catalogue import environments

    cache = content_directory(os.environ)
    facts = tuple(environments(request.prefix, request.local, request.local_of, cache))
    return ListFacts(facts, time.time())
