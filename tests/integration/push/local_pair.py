"""An environment and a prefix that it is pushed to, both of this machine, without a network."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from envsync.push.fan_out.fan_out import FanOut
from envsync.push.request.places import Destination, Place
from envsync.push.request.settings import PushSettings
from envsync.push.steps.report import PushReport
from tests.support import disk
from tests.support.pushes import NAME, environment
from tests.support.trees import Tree


class LocalPair:
    """The prefixes `here`, with the environment `source`, and `there`, with none."""

    def __init__(self, directory: Path, nodes: Tree) -> None:
        self.here, self.there = directory / "here", directory / "there"
        for prefix in (self.here, self.there):
            for name in ("envs", "conda-meta"):
                (prefix / name).mkdir(parents=True)
        self.source = self.here / "envs" / NAME
        self.source.mkdir()
        disk.build(os.fsencode(self.source), environment(nodes))

    def push(self, **options: Any) -> PushReport:
        """Push with these settings."""
        settings = PushSettings(NAME, f"here:{self.here}", "test@here", **options)
        there = Destination("there", str(self.there), None)
        [report] = FanOut(settings, Place("here", str(self.here)), [there]).run()
        return report
