"""The kernel's real limits, in namespaces made for it: watches, instances, a full disk."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab.fixtures import demand_lab
from tests.lab.host import CHECKOUT

_TMPFS = 'mount -t tmpfs -o size=256k tmpfs "$1" && shift && exec "$@"'


@pytest.mark.parametrize("case", ["watches", "instances", "disk"])
def test_at_the_limit(case: str, tmp_path: Path) -> None:
    demand_lab()
    if case != "disk" and sys.version_info < (3, 11):
        pytest.skip("watchdog 7 needs Python 3.11")
    tried = [sys.executable, "-m", "tests.integration.daemon.limited", case, str(tmp_path)]
    within = ["sh", "-c", _TMPFS, "sh", str(tmp_path)] if case == "disk" else []
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", *within, *tried],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
