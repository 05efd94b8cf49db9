"""Where /proc cannot be read, nobody knows who uses an environment, or whether one installs."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from envsync.agent.target.health import health
from envsync.agent.wire.server_operations import ServerFacts
from envsync.conda.platform_needs import Platform
from envsync.errors import PreflightRefused
from envsync.inventory.model import InUse
from tests.integration.push.local_pair import LocalPair
from tests.support.mounts import in_a_namespace
from tests.support.pushes import NAME
from tests.support.trees import file

AT_SOURCE = "whether an installer is at work in the source is unknown: there is no readable /proc"
AT_TARGET = (
    "who uses the environment there, or installs in it, is unknown: there is no readable /proc"
)


def hide_processes() -> None:
    """As where /proc is not mounted."""
    subprocess.run(["mount", "-t", "tmpfs", "none", "/proc"], check=True)


def changed(pair: LocalPair) -> None:
    (pair.source / "bin/tool").write_bytes(os.urandom(9))


def test_a_push_says_what_it_cannot_know(tmp_path: Path) -> None:
    def act() -> None:
        pair = LocalPair(tmp_path, {b"bin/tool": file(b"1", 0o755)})
        hide_processes()
        first = pair.push()
        assert (first.outcome, first.warnings) == ("pushed", (AT_SOURCE,)), first.error
        changed(pair)
        second = pair.push()
        assert (second.outcome, second.warnings) == ("pushed", (AT_SOURCE, AT_TARGET))

    in_a_namespace(act)


@pytest.mark.parametrize("in_use", ["fail", "wait"])
@pytest.mark.parametrize("dry_run", [False, True])
def test_what_is_unknown_is_not_a_no(tmp_path: Path, in_use: InUse, dry_run: bool) -> None:
    def act() -> None:
        pair = LocalPair(tmp_path, {b"bin/tool": file(b"1", 0o755)})
        pair.push()
        changed(pair)
        hide_processes()
        error = pair.push(in_use=in_use, dry_run=dry_run).error
        assert isinstance(error, PreflightRefused)
        assert error.message.startswith("whether a process uses the environment there is unknown")
        assert "in_use: publish" in error.hint
        assert (pair.there / "envs" / NAME / "bin/tool").read_bytes() == b"1"

    in_a_namespace(act)


def test_doctor_is_told(tmp_path: Path) -> None:
    server = ServerFacts("alice@server2", (), Platform("Linux", "", "", ""), 0.0, "python3")

    def sees_processes() -> bool:
        return health(str(tmp_path), (), {}, None, server).sees_processes

    def act() -> None:
        assert sees_processes()
        hide_processes()
        assert not sees_processes()

    in_a_namespace(act)
