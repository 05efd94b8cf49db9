"""Pushes between two prefixes in one process: the second can make environments itself."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from envsync.errors import ConnectionLost
from envsync.push.ends.end import LocalEnd
from envsync.push.ends.local_source import open_local
from envsync.push.ends.target_end import TargetEnd, open_request
from envsync.push.request.places import Place
from envsync.push.request.settings import PushSettings
from envsync.push.steps.report import PushReport, ServerProgress
from tests.conda import ENVIRONMENT
from tests.conda.environments import create
from tests.conda.package import Package
from tests.rebuild.servers import remake_channel
from tests.support.one_push import one_push


class TwoPrefixes:
    """`source` and `target` are prefixes; `progress` is what the pushes told of themselves."""

    def __init__(self, source: Path, target: Path) -> None:
        self.source = source
        self.target = target
        self.progress: list[ServerProgress] = []

    @property
    def made(self) -> Path:
        """The environment on the target."""
        return self.target / "envs" / ENVIRONMENT

    @property
    def left_over(self) -> list[str]:
        """What a build left in the prefix: hidden directories that nobody else makes."""
        return [path.name for path in self.target.iterdir() if path.name.startswith(".")]

    @staticmethod
    def run(*argv: str | Path) -> str:
        done = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=30)
        return done.stdout

    def create(self, channel: Path, packages: Sequence[Package]) -> None:
        """Make the source's environment, of all these packages, from a channel of them."""
        remake_channel(channel, packages)
        specs = [f"{package.name} =={package.version} {package.build}" for package in packages]
        environment = self.source / "envs" / ENVIRONMENT
        create(environment, channel, specs, package_cache=self.source / "pkgs")

    def push(self, method: str = "rebuild", **settings: object) -> PushReport:
        order = PushSettings(
            environment=ENVIRONMENT,
            source=f"server1:{self.source}",
            who="alice@server1",
            method=method,
            **settings,  # type: ignore[arg-type]
        )
        source = open_local(Place("server1", str(self.source)), ENVIRONMENT, order.local)
        with self.end(order) as target:
            return one_push(order, source, target, _no_way_back, self.progress.append)

    def rollback(self) -> None:
        order = PushSettings(ENVIRONMENT, "server1", "alice@server1")
        with self.end(order) as target:
            target.rollback(None, "alice@server1", overwrite=False)

    @contextlib.contextmanager
    def end(self, order: PushSettings) -> Iterator[TargetEnd]:
        end = LocalEnd("server2")
        try:
            yield TargetEnd(end, open_request(order, str(self.target)))
        finally:
            # A remote agent would end here, and its lock with it.
            end.service.target.lock.release()


def _no_way_back() -> contextlib.AbstractContextManager[TargetEnd]:
    raise ConnectionLost("gone for good")
