"""A password that an environment carries is named by its file, and shown nowhere."""

from __future__ import annotations

import pytest

from tests.integration.push.command import Envsync
from tests.integration.push.places import state
from tests.integration.push.stamped import Stamped
from tests.lab.lab import Lab

pytestmark = pytest.mark.timeout(60)

SECRET = "tk-0f7e3c1d-5b1a-4d3e-9c55-2f1be4a1d0aa"
INVENTORY = """\
prefix: {prefix}
servers: {{server1: {{}}, server2: {{}}}}
environments:
  myenv:
    source: server1
    push_to: [server2]
    check: "echo https://alice:{secret}@conda.lab.example/ >&2; false"
"""


def test_nothing_shows_a_password(fresh_lab: Lab) -> None:
    source = Stamped.in_lab(fresh_lab)
    history = source.top / "conda-meta/history"
    history.write_text(history.read_text() + f"# cmd: conda install -c https://h/t/{SECRET}/c x\n")
    controller, target = fresh_lab.controller, fresh_lab["server2"]
    envsync = Envsync(controller)
    warned = envsync.push("server2").server["warnings"]
    assert [line for line in warned if line.startswith("credentials are in conda-meta/history:")]
    source.change()
    envsync.configure(INVENTORY.format(prefix=controller.prefix, secret=SECRET))
    plain = controller.run(["envsync", "push", "myenv"], check=False, env=envsync.environment)
    assert "***" in plain.stderr
    failed = envsync.push("--retry-held", expect=19)
    assert "***" in str(failed.document)
    said = [plain.stdout, plain.stderr, str(failed.document)]
    kept = [path for path in state(target).rglob("*.json*") if "trees" not in path.parts]
    assert any(path.name == "held.json" for path in kept)
    said += [path.read_text() for path in kept]
    assert not any(SECRET in text for text in said)
