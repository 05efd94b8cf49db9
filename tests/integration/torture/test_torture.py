"""Rounds in which somebody is killed: no mixture, no loss, every generation as recorded."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.torture.tally import text
from tests.lab.fixtures import demand_lab
from tests.lab.host import CHECKOUT

LANES, ROUNDS = 2, 120
SECONDS_MAX = 600
"""Usually 60 s on two processors; what is asserted is not how long it takes."""


@pytest.mark.timeout(SECONDS_MAX + 60)
def test_rounds_that_are_others_every_day(tmp_path: Path) -> None:
    demand_lab()
    counts = tmp_path / "counts.json"
    seed = LANES * (int(time.time()) // 86400)  # a failure prints that of its lane
    drawn = [f"--seed={seed}", f"--rounds={ROUNDS}", f"--lanes={LANES}"]
    program = [sys.executable, "-m", "bench.torture", *drawn, f"--json={counts}"]
    with subprocess.Popen(program, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True) as running:
        try:
            told, _ = running.communicate(timeout=SECONDS_MAX)
        except subprocess.TimeoutExpired:
            running.terminate()
            raise
    assert counts.exists(), told
    found = json.loads(counts.read_text())
    assert found["failures"] == [], told
    assert running.returncode == 0, told
    # It was under fire, and looked at.
    assert found["rounds"] == ROUNDS, text(found)
    assert sum(found["kills"].values()) > ROUNDS / 4, text(found)
    assert {"command", "agent", "sshd"} <= set(found["kills"]), text(found)
    assert found["phases"].get("within it", 0) > 0, text(found)
    assert found["samples"] > 10 * ROUNDS, text(found)
